// tiny_base FOLDER: writes the tests' random model (trainer/import/tiny_model.h) as a Hugging Face
// folder, for scripts that import it.

#include <iostream>

#include "trainer/import/tiny_model.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: tiny_base FOLDER\n";
    return 2;
  }
  deltaworks::trainer::WriteTinyHfFolder(deltaworks::trainer::MakeTinyModel(), argv[1]);
}
