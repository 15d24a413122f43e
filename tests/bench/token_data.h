// Token ids that the benchmarks train on: a JSON list of {"ids": [...], "prompt_tokens": N}; the
// first N tokens of an example carry no label.

#ifndef DELTAWORKS_TESTS_BENCH_TOKEN_DATA_H_
#define DELTAWORKS_TESTS_BENCH_TOKEN_DATA_H_

#include <memory>
#include <string>

#include "trainer/data/example.h"

namespace deltaworks::trainer {

// The file's examples; the program ends if it is not such a file.
std::shared_ptr<TrainingData> ReadTokenData(const std::string& path);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TESTS_BENCH_TOKEN_DATA_H_
