// A group of linears with adapters of several segments, as twins: what forward and backward read
// and write.

#ifndef DELTAWORKS_TRAINER_BACKEND_PARITY_GROUP_CASE_H_
#define DELTAWORKS_TRAINER_BACKEND_PARITY_GROUP_CASE_H_

#include <memory>
#include <string>
#include <vector>

#include "trainer/backend/parity/twin.h"

namespace deltaworks::trainer {

struct SegmentSpec {
  int64_t rows = 0;
  std::vector<int64_t> ranks;  // One per linear; 0: not adapted.
  float dropout = 0;
  int64_t gap = 0;  // Rows without an adapter that follow.
};

struct GroupSpec {
  int64_t k = 0;
  std::vector<int64_t> n;
  std::vector<SegmentSpec> segments;

  int64_t rows() const {
    int64_t rows = 0;
    for (const SegmentSpec& segment : segments) rows += segment.rows + segment.gap;
    return rows;
  }
  int64_t rank_max() const {
    int64_t rank = 1;
    for (const SegmentSpec& segment : segments) {
      for (const int64_t r : segment.ranks) rank = std::max(rank, r);
    }
    return rank;
  }
};

class GroupCase {
 public:
  // `fp8_base`: of the backend, and so of its reference.
  GroupCase(Backend& backend, bool fp8_base, const GroupSpec& spec, uint64_t seed)
      : backend_(backend),
        reference_(fp8_base ? NewFp8ReferenceBackend(DType::kF64)
                            : NewReferenceBackend(DType::kF64)),
        spec_(spec) {
    std::mt19937_64 random(seed);
    const DType type = backend.compute_type();
    const int64_t rows = spec.rows();
    x = Twin(backend, type, {rows, spec.k});
    x.FillRandom(random, 1);
    for (const int64_t n : spec.n) {
      weights.emplace_back(backend, type, std::vector<int64_t>{n, spec.k});
      weights.back().FillRandom(random, 1 / std::sqrt(spec.k));
      dy.emplace_back(backend, type, std::vector<int64_t>{rows, n});
      dy.back().FillRandom(random, 1);
      y.emplace_back(backend, type, std::vector<int64_t>{rows, n});
    }
    int64_t width = 0;
    for (const SegmentSpec& segment : spec.segments) {
      int64_t sum = 0;
      for (const int64_t rank : segment.ranks) sum += rank;
      width = std::max(width, sum);
    }
    if (width > 0) {
      hidden = Twin(backend, type, {rows, width + 3});  // Wider than needed, as in a cohort.
      dhidden = Twin(backend, type, {rows, width + 3});
    }
    dx = Twin(backend, type, {rows, spec.k});
    MakeSegments(random);
  }

  void Forward(ProductPath path) {
    std::vector<std::unique_ptr<FrozenLinear>> test = Pack(backend_, &Twin::test);
    std::vector<std::unique_ptr<FrozenLinear>> reference = Pack(*reference_, &Twin::reference);
    backend_.LinearGroupForward(Pointers(test), segments, x.test, hidden.test,
                                Views<TensorView>(y, &Twin::test), path);
    reference_->LinearGroupForward(Pointers(reference), reference_segments, x.reference,
                                   hidden.reference, Views<TensorView>(y, &Twin::reference), path);
  }

  void Backward(bool want_dx = true) {
    std::vector<std::unique_ptr<FrozenLinear>> test = Pack(backend_, &Twin::test);
    std::vector<std::unique_ptr<FrozenLinear>> reference = Pack(*reference_, &Twin::reference);
    backend_.LinearGroupBackward(Pointers(test), segments, x.test, hidden.test,
                                 Views<ConstTensorView>(dy, &Twin::test), dhidden.test,
                                 want_dx ? dx.test : TensorView());
    reference_->LinearGroupBackward(Pointers(reference), reference_segments, x.reference,
                                    hidden.reference, Views<ConstTensorView>(dy, &Twin::reference),
                                    dhidden.reference, want_dx ? dx.reference : TensorView());
  }

  struct Adapter {
    Twin a, b, da, db;
    LoraPair test, reference;
    int64_t segment = 0;
  };

  Twin x, hidden, dhidden, dx;
  std::vector<Twin> weights, y, dy;
  std::vector<std::unique_ptr<Adapter>> adapters;  // In order of segment, then linear.
  std::vector<Segment> segments, reference_segments;

 private:
  static std::vector<const FrozenLinear*> Pointers(
      const std::vector<std::unique_ptr<FrozenLinear>>& linears) {
    std::vector<const FrozenLinear*> pointers;
    for (const auto& linear : linears) pointers.push_back(linear.get());
    return pointers;
  }
  template <typename View>
  static std::vector<View> Views(const std::vector<Twin>& twins, TensorView Twin::*side) {
    std::vector<View> views;
    for (const Twin& twin : twins) views.push_back(twin.*side);
    return views;
  }
  std::vector<std::unique_ptr<FrozenLinear>> Pack(Backend& backend, TensorView Twin::*side) {
    std::vector<std::unique_ptr<FrozenLinear>> packed;
    for (const Twin& weight : weights) packed.push_back(*backend.Pack(weight.*side));
    return packed;
  }

  void MakeSegments(std::mt19937_64& random) {
    int64_t row = 0;
    for (size_t s = 0; s < spec_.segments.size(); ++s) {
      const SegmentSpec& spec = spec_.segments[s];
      Segment segment;
      segment.row_begin = row;
      segment.row_end = row + spec.rows;
      row = segment.row_end + spec.gap;
      // Of the segment, not of its place in the batch.
      segment.dropout = {spec.dropout, /*seed=*/100 + s, /*step=*/3, /*site=*/0x201, /*token=*/50};
      Segment reference = segment;
      for (size_t i = 0; i < spec.ranks.size(); ++i) {
        if (spec.ranks[i] == 0) {
          segment.adapters.push_back(nullptr);
          reference.adapters.push_back(nullptr);
          continue;
        }
        adapters.push_back(MakeAdapter(random, s, spec.ranks[i], spec_.n[i]));
        segment.adapters.push_back(&adapters.back()->test);
        reference.adapters.push_back(&adapters.back()->reference);
      }
      segments.push_back(segment);
      reference_segments.push_back(reference);
    }
  }

  std::unique_ptr<Adapter> MakeAdapter(std::mt19937_64& random, int64_t segment, int64_t rank,
                                       int64_t n) {
    auto adapter = std::make_unique<Adapter>();
    adapter->segment = segment;
    const DType type = backend_.compute_type();
    adapter->a = Twin(backend_, type, {rank, spec_.k});
    adapter->b = Twin(backend_, type, {n, rank});
    adapter->da = Twin(backend_, DType::kF32, {rank, spec_.k});
    adapter->db = Twin(backend_, DType::kF32, {n, rank});
    adapter->a.FillRandom(random, 1 / std::sqrt(spec_.k));
    adapter->b.FillRandom(random, 1);
    adapter->da.FillRandom(random, 1);  // Gradients of an earlier micro-batch: accumulated onto.
    adapter->db.FillRandom(random, 1);
    const float scale = 2.0f / static_cast<float>(std::sqrt(rank));
    adapter->test = {adapter->a.test, adapter->b.test, scale, adapter->da.test, adapter->db.test};
    adapter->reference = {adapter->a.reference, adapter->b.reference, scale, adapter->da.reference,
                          adapter->db.reference};
    return adapter;
  }

  Backend& backend_;
  const std::unique_ptr<Backend> reference_;
  const GroupSpec spec_;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_PARITY_GROUP_CASE_H_
