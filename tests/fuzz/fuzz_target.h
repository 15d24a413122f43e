// What every fuzz target is: one function that takes any bytes. It may return only if the parser
// answered with a value or a Status, and what it checks about a value it checks with CHECK.
//
// Two programs call it: driver.cc (our own mutations, g++, what CI runs) and libFuzzer (clang,
// tests/fuzz/explore). The name is libFuzzer's.

#ifndef DELTAWORKS_TESTS_FUZZ_FUZZ_TARGET_H_
#define DELTAWORKS_TESTS_FUZZ_FUZZ_TARGET_H_

#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

#endif  // DELTAWORKS_TESTS_FUZZ_FUZZ_TARGET_H_
