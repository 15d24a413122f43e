// The probe's questions, one function each. Every answer is a line of JSON in Records(), and the
// short form of it on stdout.

#ifndef DELTAWORKS_TESTS_GPU_PROBE_SECTIONS_H_
#define DELTAWORKS_TESTS_GPU_PROBE_SECTIONS_H_

#include <cstdio>

namespace deltaworks::gpu_probe {

// Where answers go; stdout if main() opened nothing.
std::FILE*& Records();

// What the card is, how fast it copies, what a launch costs, in a stream and in a graph.
void AskCard();

// How fast a large product is, in bf16, f32 and fp8.
void AskPeak();

// For products of known models: which algorithms give rows that depend on nothing but the row,
// which of them give the same bytes, and what choosing among those costs against free choice.
// Without `thorough` the first shapes only.
void AskRows(bool thorough);

// Whether an adapter can be further columns of x and W (x' = [x | S], W' = [W | B]) and what it
// costs.
void AskFurtherColumns();

// Adapters' gradients as products: whose bytes, and what it costs not to split them.
void AskTokenSums();

// The products of a layer for seconds on end: the rate of a warm card.
void AskSustained();

// fp8: which ways to scale there are, what each costs, and how far the result is from bf16.
void AskFp8();

// A layer's products of a small model as a graph and one by one.
void AskGraph();

// NCCL with one rank: loads, initialises, sums, sends to itself, aborts.
void AskNccl();

}  // namespace deltaworks::gpu_probe

#endif  // DELTAWORKS_TESTS_GPU_PROBE_SECTIONS_H_
