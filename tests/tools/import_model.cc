// import_model: a GGUF file or Hugging Face folder to a stored base model, for tests that need the
// real one. Users run `dw model import`.

#include <iostream>
#include <string>

#include "CLI/CLI.hpp"
#include "trainer/import/import.h"

int main(int argc, char** argv) {
  deltaworks::trainer::ImportOptions options;
  std::string form = "bf16";
  CLI::App app("Imports a model into a folder.");
  app.add_option("--source", options.source_path, "model.gguf or a Hugging Face folder")
      ->required();
  app.add_option("--output", options.output_folder, "folder that does not exist yet")->required();
  app.add_option("--form", form, "f32 or bf16")->check(CLI::IsMember({"f32", "bf16"}));
  app.add_option("--name", options.source_name, "hub id or path that adapters will name");
  CLI11_PARSE(app, argc, argv);
  options.form =
      form == "f32" ? deltaworks::trainer::DType::kF32 : deltaworks::trainer::DType::kBF16;
  const auto result = deltaworks::trainer::ImportModel(options);
  if (!result.ok()) {
    std::cerr << result.status() << "\n";
    return 1;
  }
  std::cout << result->manifest.source_digest << "\n";
}
