// Jobs, and batches made of them: what one job gets out of a batch, as bytes.

#ifndef DELTAWORKS_TRAINER_BACKEND_PARITY_JOB_BATCH_H_
#define DELTAWORKS_TRAINER_BACKEND_PARITY_JOB_BATCH_H_

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "glog/logging.h"
#include "gtest/gtest.h"
#include "trainer/backend/backend.h"

namespace deltaworks::trainer {

// A tensor in memory of the backend with rows behind it, all of it NaN at first.
class HostTensor {
 public:
  HostTensor(Backend& backend, DType dtype, std::vector<int64_t> shape) {
    view = TensorView{nullptr, dtype, shape};
    shape[0] += 32;  // More than a kernel works on at a time.
    auto buffer = backend.Allocate(TensorView{nullptr, dtype, shape}.bytes());
    CHECK(buffer.ok()) << buffer.status();
    buffer_ = *std::move(buffer);
    view.data = buffer_->data();
    FillWithNaN();
  }

  void FillWithNaN() { std::memset(buffer_->data(), 0xff, buffer_->bytes()); }
  void Set(int64_t i, float value) {
    if (view.dtype == DType::kF32) {
      view.as<float>()[i] = value;
    } else {
      view.as<BFloat16>()[i] = BFloat16(value);
    }
  }
  double At(int64_t i) const {
    return view.dtype == DType::kF32 ? view.as<float>()[i]
                                     : static_cast<float>(view.as<BFloat16>()[i]);
  }
  void FillRandom(std::mt19937_64& random) {
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < view.elements(); ++i) Set(i, normal(random));
  }
  int64_t row_bytes() const { return view.shape[0] == 0 ? 0 : view.bytes() / view.shape[0]; }
  // All of `from` becomes rows `row` and following.
  void CopyRows(const HostTensor& from, int64_t row) {
    std::memcpy(static_cast<char*>(view.data) + row * row_bytes(), from.view.data,
                from.view.bytes());
  }
  void CopyRow(const HostTensor& from, int64_t from_row, int64_t row) {
    std::memcpy(static_cast<char*>(view.data) + row * row_bytes(),
                static_cast<const char*>(from.view.data) + from_row * row_bytes(), row_bytes());
  }
  ConstTensorView Rows(int64_t begin, int64_t end) const {
    std::vector<int64_t> shape = view.shape;
    shape[0] = end - begin;
    return {static_cast<const char*>(view.data) + begin * row_bytes(), view.dtype, shape};
  }
  std::string RowBytes(int64_t begin, int64_t end) const {
    return std::string(static_cast<const char*>(view.data) + begin * row_bytes(),
                       (end - begin) * row_bytes());
  }
  std::string Bytes() const { return RowBytes(0, view.shape[0]); }

  TensorView view;

 private:
  std::unique_ptr<DeviceBuffer> buffer_;
};

struct GroupShape {
  int64_t k = 0;
  std::vector<int64_t> n;
};

struct JobSpec {
  int64_t rows = 0;
  std::vector<int64_t> ranks;  // One per linear; 0: not adapted.
  float dropout = 0;
};

struct Job {
  Job(Backend& backend, const GroupShape& shape, const JobSpec& job_spec, uint64_t job_seed)
      : spec(job_spec), seed(job_seed), x(backend, backend.compute_type(), {spec.rows, shape.k}) {
    std::mt19937_64 random(seed + 1);
    x.FillRandom(random);
    for (size_t i = 0; i < shape.n.size(); ++i) {
      const int64_t rank = std::max<int64_t>(spec.ranks[i], 1);
      const DType type = backend.compute_type();
      dy.emplace_back(backend, type, std::vector<int64_t>{spec.rows, shape.n[i]});
      a.emplace_back(backend, type, std::vector<int64_t>{rank, shape.k});
      b.emplace_back(backend, type, std::vector<int64_t>{shape.n[i], rank});
      for (HostTensor* tensor : {&dy.back(), &a.back(), &b.back()}) tensor->FillRandom(random);
    }
  }

  void FillWithNaN() {
    x.FillWithNaN();
    for (std::vector<HostTensor>* tensors : {&dy, &a, &b}) {
      for (HostTensor& tensor : *tensors) tensor.FillWithNaN();
    }
  }

  JobSpec spec;
  uint64_t seed;
  HostTensor x;
  std::vector<HostTensor> dy, a, b;
};

// Everything that a job gets, of forward and backward.
struct JobResult {
  std::string y, hidden, dx, da, db;
};

inline void ExpectSameBytes(const JobResult& got, const JobResult& want) {
  EXPECT_TRUE(got.y == want.y) << "y differs";
  EXPECT_TRUE(got.hidden == want.hidden) << "hidden differs";
  EXPECT_TRUE(got.dx == want.dx) << "dx differs";
  EXPECT_TRUE(got.da == want.da) << "da differs";
  EXPECT_TRUE(got.db == want.db) << "db differs";
}

class JobBatch {
 public:
  JobBatch(Backend& backend, const GroupShape& shape) : shape_(shape) {
    std::mt19937_64 random(77);
    for (const int64_t n : shape.n) {
      weights_.emplace_back(backend, backend.compute_type(), std::vector<int64_t>{n, shape.k});
      weights_.back().FillRandom(random);
    }
  }

  // `gap` rows that belong to nobody, NaN, stand after each job.
  std::vector<JobResult> Run(Backend& backend, const std::vector<const Job*>& jobs,
                             int64_t gap = 0) const {
    const DType type = backend.compute_type();
    int64_t rows = 0, width = 1;
    for (const Job* job : jobs) {
      rows += job->spec.rows + gap;
      int64_t sum = 0;
      for (const int64_t rank : job->spec.ranks) sum += rank;
      width = std::max(width, sum);
    }
    HostTensor x(backend, type, {rows, shape_.k}), dx(backend, type, {rows, shape_.k});
    HostTensor hidden(backend, type, {rows, width}), dhidden(backend, type, {rows, width});
    std::vector<HostTensor> y, dy;
    for (const int64_t n : shape_.n) {
      y.emplace_back(backend, type, std::vector<int64_t>{rows, n});
      dy.emplace_back(backend, type, std::vector<int64_t>{rows, n});
    }
    std::vector<std::unique_ptr<Gradients>> gradients;
    std::vector<Segment> segments;
    int64_t row = 0;
    for (const Job* job : jobs) {
      x.CopyRows(job->x, row);
      for (size_t i = 0; i < dy.size(); ++i) dy[i].CopyRows(job->dy[i], row);
      gradients.push_back(std::make_unique<Gradients>(backend, *job));
      Segment segment;
      segment.row_begin = row;
      segment.row_end = row + job->spec.rows;
      segment.dropout = {job->spec.dropout, job->seed, /*step=*/2, /*site=*/0x105, /*token=*/40};
      for (size_t i = 0; i < dy.size(); ++i) {
        segment.adapters.push_back(job->spec.ranks[i] == 0 ? nullptr : &gradients.back()->pairs[i]);
      }
      segments.push_back(segment);
      row = segment.row_end + gap;
    }
    std::vector<std::unique_ptr<FrozenLinear>> packed;
    std::vector<const FrozenLinear*> group;
    std::vector<TensorView> y_views;
    std::vector<ConstTensorView> dy_views;
    for (size_t i = 0; i < dy.size(); ++i) {
      packed.push_back(*backend.Pack(weights_[i].view));
      group.push_back(packed.back().get());
      y_views.push_back(y[i].view);
      dy_views.push_back(dy[i].view);
    }
    backend.LinearGroupForward(group, segments, x.view, hidden.view, y_views, ProductPath::kBatch);
    backend.LinearGroupBackward(group, segments, x.view, hidden.view, dy_views, dhidden.view,
                                dx.view);
    std::vector<JobResult> results;
    for (size_t j = 0; j < jobs.size(); ++j) {
      results.push_back(Result(segments[j], *gradients[j], y, hidden, dx));
    }
    return results;
  }

 private:
  struct Gradients {
    Gradients(Backend& backend, const Job& job) {
      for (size_t i = 0; i < job.a.size(); ++i) {
        da.emplace_back(backend, DType::kF32, job.a[i].view.shape);
        db.emplace_back(backend, DType::kF32, job.b[i].view.shape);
        backend.Fill(da.back().view, 0.25);
        backend.Fill(db.back().view, 0.25);
      }
      for (size_t i = 0; i < job.a.size(); ++i) {
        pairs.push_back({job.a[i].view, job.b[i].view, 0.5f, da[i].view, db[i].view});
      }
    }
    std::vector<HostTensor> da, db;
    std::vector<LoraPair> pairs;
  };

  static JobResult Result(const Segment& segment, const Gradients& gradients,
                          const std::vector<HostTensor>& y, const HostTensor& hidden,
                          const HostTensor& dx) {
    JobResult result;
    for (const HostTensor& tensor : y) {
      result.y += tensor.RowBytes(segment.row_begin, segment.row_end);
    }
    const int64_t bytes = segment.hidden_width() * SizeOf(hidden.view.dtype);
    for (int64_t row = segment.row_begin; row < segment.row_end; ++row) {
      result.hidden += hidden.RowBytes(row, row + 1).substr(0, bytes);
    }
    result.dx = dx.RowBytes(segment.row_begin, segment.row_end);
    for (const HostTensor& tensor : gradients.da) result.da += tensor.Bytes();
    for (const HostTensor& tensor : gradients.db) result.db += tensor.Bytes();
    return result;
  }

  const GroupShape shape_;
  std::vector<HostTensor> weights_;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_PARITY_JOB_BATCH_H_
