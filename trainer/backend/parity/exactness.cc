// The promise that everything above rests on: what a job gets depends on the job alone. Each test
// compares bytes between batches that share a job and differ in everything else: number of rows,
// place in the batch, neighbours (NaN among them), number of threads.

#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "trainer/backend/parity/backends.h"
#include "trainer/backend/parity/job_batch.h"
#include "trainer/backend/philox.h"

namespace deltaworks::trainer {
namespace {

constexpr int kThreads[] = {1, 2, 3, 8, 32};
constexpr int kThreadCounts = std::size(kThreads);

// Sanitizers make these tests some ten times slower, and look for other faults: of the many numbers
// of rows they get every tenth or so.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int64_t kThinning = 11;
#else
constexpr int64_t kThinning = 1;
#endif

class ExactnessTest : public ::testing::TestWithParam<TestedBackend> {
 protected:
  std::vector<std::unique_ptr<Backend>> BackendsOfAllThreads() {
    std::vector<std::unique_ptr<Backend>> backends;
    for (const int threads : kThreads) backends.push_back(GetParam().make(threads));
    return backends;
  }
};

INSTANTIATE_TEST_SUITE_P(Backends, ExactnessTest, AllBackends(), BackendName);

constexpr int64_t kAllRows = 4096;

// y and dx of all rows at once, then of windows of them, wherever they begin: each row's bytes
// stay. The backends outlive it.
class Windows {
 public:
  Windows(Backend& backend, int64_t n, int64_t k, int64_t rows)
      : n_(n),
        k_(k),
        type_(backend.compute_type()),
        x_(backend, type_, {rows, k}),
        dy_(backend, type_, {rows, n}),
        weight_(backend, type_, {n, k}),
        a_(backend, type_, {kRank, k}),
        b_(backend, type_, {n, kRank}) {
    std::mt19937_64 random(n * 7 + k);
    for (HostTensor* tensor : {&x_, &dy_, &weight_, &a_, &b_}) tensor->FillRandom(random);
    pair_ = {a_.view, b_.view, 0.5f, {}, {}};
    all_y_ = Forward(backend, 0, rows, ProductPath::kBatch);
    all_dx_ = Backward(backend, 0, rows);
    decoded_y_ = Forward(backend, 0, std::min<int64_t>(rows, 64), ProductPath::kDecode);
  }

  void ExpectSame(Backend& backend, int64_t begin, int64_t rows) {
    const int64_t y_row = n_ * SizeOf(type_);
    const int64_t dx_row = k_ * SizeOf(type_);
    EXPECT_EQ(FirstDifference(Forward(backend, begin, rows, ProductPath::kBatch), all_y_,
                              begin * y_row, y_row),
              -1)
        << "row of y, of " << rows << " rows from " << begin << ", N " << n_ << " K " << k_;
    EXPECT_EQ(FirstDifference(Backward(backend, begin, rows), all_dx_, begin * dx_row, dx_row), -1)
        << "row of dx, of " << rows << " rows from " << begin << ", N " << n_ << " K " << k_;
  }

  void ExpectSameDecoding(Backend& backend, int64_t begin, int64_t rows) {
    const int64_t y_row = n_ * SizeOf(type_);
    EXPECT_EQ(FirstDifference(Forward(backend, begin, rows, ProductPath::kDecode), decoded_y_,
                              begin * y_row, y_row),
              -1)
        << "row of y, of " << rows << " rows from " << begin << ", N " << n_ << " K " << k_;
  }

 private:
  static constexpr int64_t kRank = 8;

  static int64_t FirstDifference(const std::string& got, const std::string& all, int64_t offset,
                                 int64_t row_bytes) {
    for (int64_t i = 0; i < got.size(); i += row_bytes) {
      if (std::memcmp(got.data() + i, all.data() + offset + i, row_bytes) != 0)
        return i / row_bytes;
    }
    return -1;
  }

  ConstTensorView Rows(const HostTensor& tensor, int64_t begin, int64_t rows) const {
    const int64_t width = tensor.view.dim(1);
    return {static_cast<const char*>(tensor.view.data) + begin * width * SizeOf(type_),
            type_,
            {rows, width}};
  }

  const FrozenLinear* Packed(Backend& backend) {
    std::unique_ptr<FrozenLinear>& linear = packed_[&backend];
    if (linear == nullptr) linear = *backend.Pack(weight_.view);
    return linear.get();
  }

  std::string Forward(Backend& backend, int64_t begin, int64_t rows, ProductPath path) {
    Segment segment;
    segment.row_end = rows;
    segment.adapters = {&pair_};
    HostTensor hidden(backend, type_, {rows, kRank}), y(backend, type_, {rows, n_});
    backend.LinearGroupForward({Packed(backend)}, {segment}, Rows(x_, begin, rows), hidden.view,
                               {y.view}, path);
    return y.Bytes();
  }

  std::string Backward(Backend& backend, int64_t begin, int64_t rows) {
    HostTensor dx(backend, type_, {rows, k_});
    backend.LinearGroupBackward({Packed(backend)}, {}, Rows(x_, begin, rows), {},
                                {Rows(dy_, begin, rows)}, {}, dx.view);
    return dx.Bytes();
  }

  const int64_t n_, k_;
  const DType type_;
  HostTensor x_, dy_, weight_, a_, b_;
  std::map<Backend*, std::unique_ptr<FrozenLinear>> packed_;
  LoraPair pair_;
  std::string all_y_, all_dx_, decoded_y_;
};

TEST_P(ExactnessTest, ARowIsTheSameAmongAnyNumberOfRowsAndThreads) {
  const auto backends = BackendsOfAllThreads();
  for (const auto& [n, k] : std::vector<std::pair<int64_t, int64_t>>{
           {576, 576}, {192, 576}, {1536, 576}, {576, 1536}, {64, 14336}, {33, 77}, {300, 130}}) {
    const bool large = n * k > 100000;
    Windows windows(*backends[0], n, k, 600);
    std::mt19937_64 random(3);
    // Slow backends: some numbers of rows, others for each shape.
    const int64_t stride = kThinning * (large ? GetParam().thinning : 1);
    for (int64_t rows = 1 + (n + k) % stride; rows <= 300; rows += stride) {
      windows.ExpectSame(*backends[rows / stride % kThreadCounts], random() % (600 - rows), rows);
    }
  }
}

TEST_P(ExactnessTest, ARowIsTheSameAmongManyRows) {
  const auto backends = BackendsOfAllThreads();
  for (const auto& [n, k] : std::vector<std::pair<int64_t, int64_t>>{{192, 64}, {33, 77}}) {
    Windows windows(*backends[0], n, k, kAllRows);
    std::mt19937_64 random(4);
    for (int i = 0; i < 25; i += kThinning) {
      const int64_t rows = 1 + random() % kAllRows;
      windows.ExpectSame(*backends[i % kThreadCounts], random() % (kAllRows - rows + 1), rows);
    }
  }
}

// As deep as the sum of an output layer's gradient over a vocabulary.
TEST_P(ExactnessTest, ARowOfADeepSumIsTheSame) {
  const auto backends = BackendsOfAllThreads();
  for (const auto& [n, k] : std::vector<std::pair<int64_t, int64_t>>{{49152, 24}, {16, 49152}}) {
    Windows windows(*backends[0], n, k, 160);
    const std::vector<int64_t> counts = {130, 1, 2, 6, 7, 96, 127, 128};
    for (size_t i = 0; i < counts.size(); i += kThinning) {
      windows.ExpectSame(*backends[i % kThreadCounts], static_cast<int64_t>(i), counts[i]);
    }
  }
}

TEST_P(ExactnessTest, ADecodedRowIsTheSameAmongAnyNumberOfRowsAndThreads) {
  const auto backends = BackendsOfAllThreads();
  for (const auto& [n, k] :
       std::vector<std::pair<int64_t, int64_t>>{{576, 576}, {33, 77}, {130, 1536}}) {
    Windows windows(*backends[0], n, k, 64);
    for (int64_t rows = 1; rows <= 33; ++rows) {
      windows.ExpectSameDecoding(*backends[rows % kThreadCounts], rows % 31, rows);
    }
  }
}

// Jobs of every awkward length; alone, and in all kinds of company.
TEST_P(ExactnessTest, AJobGetsTheSameBytesInAnyCompany) {
  const GroupShape shape = {96, {64, 33, 48}};
  const std::vector<JobSpec> specs = {{129, {8, 0, 3}, 0},      {1, {0, 4, 0}, 0},
                                      {33, {8, 8, 8}, 0.1f},    {128, {0, 0, 0}, 0},
                                      {200, {33, 1, 0}, 0.25f}, {127, {8, 8, 8}, 0}};
  std::vector<Job> jobs;
  const auto backends = BackendsOfAllThreads();
  for (const JobSpec& spec : specs) jobs.emplace_back(*backends[0], shape, spec, jobs.size());
  JobBatch batch(*backends[0], shape);
  std::vector<JobResult> alone;
  for (const Job& job : jobs) alone.push_back(batch.Run(*backends[0], {&job})[0]);

  std::mt19937_64 random(5);
  for (int trial = 0; trial < 24; ++trial) {
    std::vector<int> order(jobs.size());
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    order.resize(2 + trial % (jobs.size() - 1));
    std::vector<const Job*> company;
    for (const int i : order) company.push_back(&jobs[i]);
    const auto results =
        batch.Run(*backends[trial % kThreadCounts], company, /*gap=*/trial % 3 * 7);
    for (size_t i = 0; i < order.size(); ++i) {
      SCOPED_TRACE(testing::Message() << "trial " << trial << " job " << order[i]);
      ExpectSameBytes(results[i], alone[order[i]]);
    }
  }
}

// Sums over tokens of several tiles, adapters of several panels.
TEST_P(ExactnessTest, ALongJobOfHighRankGetsTheSameBytesInAnyCompany) {
  const GroupShape shape = {70, {65, 33}};
  const std::vector<JobSpec> specs = {
      {1100, {67, 5}, 0.1f}, {2049, {3, 0}, 0}, {1, {65, 1}, 0.2f}, {33, {8, 8}, 0}};
  const auto backends = BackendsOfAllThreads();
  std::vector<Job> jobs;
  for (const JobSpec& spec : specs) jobs.emplace_back(*backends[0], shape, spec, jobs.size());
  JobBatch batch(*backends[0], shape);
  std::vector<JobResult> alone;
  for (const Job& job : jobs) alone.push_back(batch.Run(*backends[0], {&job})[0]);
  for (size_t trial = 0; trial < jobs.size(); ++trial) {
    std::vector<const Job*> company;
    for (size_t i = 0; i < jobs.size(); ++i) company.push_back(&jobs[(trial + i) % jobs.size()]);
    const auto results =
        batch.Run(*backends[(trial + 1) % kThreadCounts], company, /*gap=*/trial % 3 * 7);
    for (size_t i = 0; i < jobs.size(); ++i) {
      SCOPED_TRACE(testing::Message() << "trial " << trial << " place " << i);
      ExpectSameBytes(results[i], alone[(trial + i) % jobs.size()]);
    }
  }
}

TEST_P(ExactnessTest, NaNOfOneJobReachesNoOther) {
  const GroupShape shape = {65, {64, 33}};
  const auto backend = GetParam().make(2);
  Job first(*backend, shape, {61, {8, 3}, 0}, 0);
  Job sick(*backend, shape, {70, {8, 5}, 0.1f}, 1);
  Job last(*backend, shape, {30, {0, 9}, 0.1f}, 2);
  JobBatch batch(*backend, shape);
  const auto before = batch.Run(*backend, {&first, &sick, &last});
  sick.FillWithNaN();
  const auto after = batch.Run(*backend, {&first, &sick, &last});
  ExpectSameBytes(after[0], before[0]);
  ExpectSameBytes(after[2], before[2]);
  EXPECT_NE(after[1].y, before[1].y);
}

// A [K,K] identity shows drop(x) itself in `hidden`: one term of each sum is not zero.
TEST_P(ExactnessTest, DropoutMasksAreThoseOfPhilox) {
  const auto backend = GetParam().make(2);
  const DType type = backend->compute_type();
  const int64_t k = 150, rows = 140, begin = 3;
  HostTensor x(*backend, type, {rows, k}), a(*backend, type, {k, k}), b(*backend, type, {1, k});
  HostTensor weight(*backend, type, {1, k}), hidden(*backend, type, {rows, k});
  HostTensor y(*backend, type, {rows, 1});
  backend->Fill(x.view, 1);
  backend->Fill(a.view, 0);
  backend->Fill(b.view, 0);
  backend->Fill(weight.view, 0);
  for (int64_t i = 0; i < k; ++i) a.Set(i * k + i, 1);
  const LoraPair pair = {a.view, b.view, 1, {}, {}};
  Segment segment;
  segment.row_begin = begin;
  segment.row_end = rows;
  segment.adapters = {&pair};
  segment.dropout = {0.25f, /*seed=*/0x123456789abcdef, /*step=*/7, /*site=*/0x1703, /*token=*/900};
  const auto linear = *backend->Pack(weight.view);
  for (const ProductPath path : {ProductPath::kBatch, ProductPath::kDecode}) {
    backend->LinearGroupForward({linear.get()}, {segment}, x.view, hidden.view, {y.view}, path);
    int64_t kept = 0;
    for (int64_t t = begin; t < rows; ++t) {
      for (int64_t f = 0; f < k; ++f) {
        const uint32_t word =
            DropoutWords(segment.dropout.seed, 7, 0x1703, 900 + (t - begin), f / 4)[f % 4];
        const bool keep = word >= DropoutThreshold(0.25f);
        kept += keep;
        const double rounding = type == DType::kBF16 ? 0x1p-8 : 0x1p-23;
        ASSERT_NEAR(hidden.At(t * k + f), keep ? 1 / 0.75 : 0, rounding) << t << " " << f;
      }
    }
    EXPECT_NEAR(kept, 0.75 * (rows - begin) * k, 5 * std::sqrt(0.1875 * rows * k));
  }
}

TEST_P(ExactnessTest, AttentionOfASpanIsTheSameInAnyCompany) {
  const auto backends = BackendsOfAllThreads();
  const DType type = backends[0]->compute_type();
  const AttentionShape shape = {6, 2, 24, 0.2f, true};
  std::mt19937_64 random(9);
  struct Document {
    HostTensor q, k, v, dout;
    int64_t rows;
  };
  std::vector<Document> documents;
  for (const int64_t rows : {1, 31, 48, 64, 65, 129, 200}) {
    const auto tensor = [&](int64_t heads) {
      HostTensor values(*backends[0], type, {rows, heads * shape.head_dim});
      values.FillRandom(random);
      return values;
    };
    documents.push_back({tensor(6), tensor(2), tensor(2), tensor(6), rows});
  }
  // The bytes of each document's out, lse, dq, dk and dv.
  const auto run = [&](Backend& backend, const std::vector<int>& order, int64_t gap, bool sick) {
    int64_t rows = 0;
    for (const int i : order) rows += documents[i].rows + gap;
    HostTensor q(backend, type, {rows, 6 * 24}), k(backend, type, {rows, 2 * 24});
    HostTensor v(backend, type, {rows, 2 * 24}), dout(backend, type, {rows, 6 * 24});
    HostTensor out(backend, type, {rows, 6 * 24}), lse(backend, DType::kF32, {rows, 6});
    HostTensor dq(backend, type, {rows, 6 * 24}), dk(backend, type, {rows, 2 * 24});
    HostTensor dv(backend, type, {rows, 2 * 24});
    std::vector<AttentionSpan> spans;
    int64_t row = 0;
    for (const int i : order) {
      // A sick batch has NaN in all documents but the first.
      if (!sick || spans.empty()) {
        q.CopyRows(documents[i].q, row);
        k.CopyRows(documents[i].k, row);
        v.CopyRows(documents[i].v, row);
        dout.CopyRows(documents[i].dout, row);
      }
      spans.push_back({row, row + documents[i].rows, row, row + documents[i].rows});
      row += documents[i].rows + gap;
    }
    backend.AttentionForward(shape, spans, q.view, k.view, v.view, out.view, lse.view,
                             ProductPath::kBatch);
    backend.AttentionBackward(shape, spans, q.view, k.view, v.view, out.view, lse.view, dout.view,
                              dq.view, dk.view, dv.view);
    std::vector<std::string> results;
    for (const AttentionSpan& span : spans) {
      std::string bytes;
      for (const HostTensor* tensor : {&out, &lse, &dq, &dk, &dv}) {
        bytes += tensor->RowBytes(span.query_begin, span.query_end);
      }
      results.push_back(bytes);
    }
    return results;
  };
  std::vector<std::string> alone;
  for (int i = 0; i < documents.size(); ++i) alone.push_back(run(*backends[0], {i}, 0, false)[0]);
  for (int trial = 0; trial < 16; ++trial) {
    std::vector<int> order(documents.size());
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    const bool sick = trial % 4 == 3;
    const auto together = run(*backends[trial % kThreadCounts], order, trial % 3 * 5, sick);
    for (size_t i = 0; i < (sick ? 1 : order.size()); ++i) {
      EXPECT_EQ(together[i], alone[order[i]]) << "trial " << trial << " document " << order[i];
    }
  }
}

// A prompt is read in pieces as its neighbours leave room: pieces of one query too.
TEST_P(ExactnessTest, APromptIsTheSameHoweverItIsCut) {
  const auto backends = BackendsOfAllThreads();
  const DType type = backends[0]->compute_type();
  const AttentionShape shape = {6, 2, 40, 0.2f, true};
  constexpr int64_t kRows = 150;
  std::mt19937_64 random(11);
  HostTensor q(*backends[0], type, {kRows, 240}), k(*backends[0], type, {kRows, 80});
  HostTensor v(*backends[0], type, {kRows, 80});
  for (HostTensor* tensor : {&q, &k, &v}) tensor->FillRandom(random);
  // The bytes of the queries from `begin` on, which are a piece of their own.
  const auto run = [&](int64_t begin, int64_t end) {
    Backend& backend = *backends[0];
    HostTensor piece(backend, type, {end - begin, 240}), out(backend, type, {end - begin, 240});
    HostTensor lse(backend, DType::kF32, {end - begin, 6});
    for (int64_t i = begin; i < end; ++i) piece.CopyRow(q, i, i - begin);
    backend.AttentionForward(shape, {{0, end - begin, 0, end}}, piece.view, k.view, v.view,
                             out.view, lse.view, ProductPath::kBatch);
    std::vector<std::string> rows;
    for (int64_t i = 0; i < end - begin; ++i) {
      rows.push_back(out.RowBytes(i, i + 1) + lse.RowBytes(i, i + 1));
    }
    return rows;
  };
  const std::vector<std::string> whole = run(0, kRows);
  for (const int64_t cut : {1, 2, 63, 64, 65, 100, 148, 149}) {
    const std::vector<std::string> first = run(0, cut), second = run(cut, kRows);
    for (int64_t i = 0; i < kRows; ++i) {
      EXPECT_EQ(i < cut ? first[i] : second[i - cut], whole[i]) << "row " << i << " cut at " << cut;
    }
  }
  for (int64_t i = 0; i < kRows; ++i) EXPECT_EQ(run(i, i + 1)[0], whole[i]) << "row " << i;
}

// One query to a span, as in decoding: each reads its own part of a cache, the rest of which is
// NaN.
TEST_P(ExactnessTest, ADecodingStepIsTheSameInAnyCompany) {
  const auto backends = BackendsOfAllThreads();
  const DType type = backends[0]->compute_type();
  const AttentionShape shape = {6, 2, 40, 0.2f, true};
  const std::vector<int64_t> lengths = {1, 17, 64, 200};
  std::mt19937_64 random(10);
  HostTensor q(*backends[0], type, {4, 240}), k(*backends[0], type, {300, 80});
  HostTensor v(*backends[0], type, {300, 80});
  for (HostTensor* tensor : {&q, &k, &v}) tensor->FillRandom(random);
  const auto run = [&](Backend& backend, const std::vector<int64_t>& which) {
    const int64_t count = which.size();
    HostTensor some_q(backend, type, {count, 240}), some_k(backend, type, {300, 80});
    HostTensor some_v(backend, type, {300, 80}), out(backend, type, {count, 240});
    HostTensor lse(backend, DType::kF32, {count, 6});
    std::vector<AttentionSpan> spans;
    int64_t row = 3;
    for (int64_t i = 0; i < count; ++i) {
      some_q.CopyRow(q, which[i], i);
      for (int64_t j = 0; j < lengths[which[i]]; ++j) {
        some_k.CopyRow(k, j + which[i], row + j);
        some_v.CopyRow(v, j + which[i], row + j);
      }
      spans.push_back({i, i + 1, row, row + lengths[which[i]]});
      row += lengths[which[i]] + 2;
    }
    backend.AttentionForward(shape, spans, some_q.view, some_k.view, some_v.view, out.view,
                             lse.view, ProductPath::kDecode);
    std::vector<std::string> results;
    for (int64_t i = 0; i < count; ++i) {
      results.push_back(out.RowBytes(i, i + 1) + lse.RowBytes(i, i + 1));
    }
    return results;
  };
  std::vector<int64_t> order = {0, 1, 2, 3};
  for (int trial = 0; trial < 8; ++trial) {
    std::shuffle(order.begin(), order.end(), random);
    const auto together = run(*backends[trial % kThreadCounts], order);
    for (size_t i = 0; i < order.size(); ++i) {
      EXPECT_EQ(together[i], run(*backends[0], {order[i]})[0]) << "length " << lengths[order[i]];
    }
  }
}

// Keys in pages, in any order and between the pages of others, which are NaN: the bytes of the same
// keys side by side.
TEST_P(ExactnessTest, WhereThePagesOfKeysLieDoesNotMatter) {
  const auto backends = BackendsOfAllThreads();
  const DType type = backends[0]->compute_type();
  std::mt19937_64 random(12);
  for (const int64_t head_dim : {40, 6}) {
    const AttentionShape shape = {6, 2, head_dim, 0.2f, true};
    constexpr int64_t kPages = 12, kCacheRows = kPages * kKeyPage;
    std::vector<int32_t> free(kPages);
    std::iota(free.begin(), free.end(), 0);
    std::shuffle(free.begin(), free.end(), random);
    HostTensor paged_k(*backends[0], type, {kCacheRows, 2 * head_dim});
    HostTensor paged_v(*backends[0], type, {kCacheRows, 2 * head_dim});
    // Keys of a stream, and its queries in this pass: the last ones.
    const std::vector<std::pair<int64_t, int64_t>> streams = {{1, 1}, {64, 20}, {65, 1}, {200, 70}};
    for (const ProductPath path : {ProductPath::kBatch, ProductPath::kDecode}) {
      std::vector<std::vector<int32_t>> pages(streams.size());
      std::vector<AttentionSpan> spans;
      std::vector<std::string> alone;
      std::vector<int32_t> left = free;
      int64_t rows = 0;
      HostTensor q(*backends[0], type, {100, 6 * head_dim});
      for (size_t s = 0; s < streams.size(); ++s) {
        const int64_t keys = streams[s].first;
        const int64_t queries = path == ProductPath::kDecode ? 1 : streams[s].second;
        HostTensor own_q(*backends[0], type, {queries, 6 * head_dim});
        HostTensor k(*backends[0], type, {keys, 2 * head_dim});
        HostTensor v(*backends[0], type, {keys, 2 * head_dim});
        for (HostTensor* tensor : {&own_q, &k, &v}) tensor->FillRandom(random);
        HostTensor out(*backends[0], type, own_q.view.shape);
        HostTensor lse(*backends[0], DType::kF32, {queries, 6});
        backends[0]->AttentionForward(shape, {{0, queries, 0, keys}}, own_q.view, k.view, v.view,
                                      out.view, lse.view, path);
        alone.push_back(out.Bytes() + lse.Bytes());
        for (int64_t key = 0; key < keys; ++key) {
          if (key % kKeyPage == 0) pages[s].push_back(left.back()), left.pop_back();
          const int64_t row = pages[s].back() * kKeyPage + key % kKeyPage;
          paged_k.CopyRow(k, key, row), paged_v.CopyRow(v, key, row);
        }
        q.CopyRows(own_q, rows);
        spans.push_back({.query_begin = rows,
                         .query_end = rows + queries,
                         .key_end = keys,
                         .pages = pages[s].data()});
        rows += queries;
      }
      for (const auto& backend : backends) {
        HostTensor out(*backend, type, {100, 6 * head_dim});
        HostTensor lse(*backend, DType::kF32, {100, 6});
        backend->AttentionForward(shape, spans, q.view, paged_k.view, paged_v.view, out.view,
                                  lse.view, path);
        for (size_t s = 0; s < spans.size(); ++s) {
          EXPECT_EQ(out.RowBytes(spans[s].query_begin, spans[s].query_end) +
                        lse.RowBytes(spans[s].query_begin, spans[s].query_end),
                    alone[s])
              << streams[s].first << " keys, heads of " << head_dim;
        }
      }
      paged_k.FillWithNaN(), paged_v.FillWithNaN();
    }
  }
}

TEST_P(ExactnessTest, ALossIsTheSameAmongAnyRows) {
  const auto backends = BackendsOfAllThreads();
  const DType type = backends[0]->compute_type();
  const int64_t rows = 300, d = 64, vocabulary = 4500;
  std::mt19937_64 random(4);
  HostTensor x(*backends[0], type, {rows, d}), weight(*backends[0], type, {vocabulary, d});
  HostTensor labels(*backends[0], DType::kI32, {rows}), weights(*backends[0], DType::kF32, {rows});
  for (HostTensor* tensor : {&x, &weight, &weights}) tensor->FillRandom(random);
  for (int64_t i = 0; i < rows; ++i) labels.view.as<int32_t>()[i] = random() % vocabulary;
  const auto run = [&](Backend& backend, const std::vector<int>& order, bool sick) {
    const int64_t count = order.size();
    HostTensor some_x(backend, type, {count, d}), some_labels(backend, DType::kI32, {count});
    HostTensor some_weights(backend, DType::kF32, {count}), losses(backend, DType::kF32, {count});
    HostTensor dx(backend, type, {count, d});
    for (int64_t i = 0; i < count; ++i) {
      if (!sick || i == 0) some_x.CopyRow(x, order[i], i);
      some_labels.view.as<int32_t>()[i] = labels.view.as<int32_t>()[order[i]];
      some_weights.view.as<float>()[i] = weights.view.as<float>()[order[i]];
    }
    const auto linear = *backend.PackTable(weight.view);
    backend.CrossEntropy(*linear, some_x.view, some_labels.view, some_weights.view, losses.view,
                         dx.view);
    std::vector<std::string> results;
    for (int64_t i = 0; i < count; ++i) {
      results.push_back(losses.RowBytes(i, i + 1) + dx.RowBytes(i, i + 1));
    }
    return results;
  };
  std::vector<int> all(rows);
  std::iota(all.begin(), all.end(), 0);
  const auto expected = run(*backends[0], all, false);
  for (const int64_t count : {1, 2, 127, 128, 129, 300}) {
    std::shuffle(all.begin(), all.end(), random);
    const std::vector<int> order(all.begin(), all.begin() + count);
    for (const bool sick : {false, true}) {
      const auto got = run(*backends[count % kThreadCounts], order, sick);
      for (int64_t i = 0; i < (sick ? 1 : count); ++i) {
        ASSERT_EQ(got[i], expected[order[i]]) << "row " << i << " of " << count;
      }
    }
  }
}

TEST_P(ExactnessTest, ElementwiseOperationsDoNotDependOnPlaceOrThreads) {
  const auto backends = BackendsOfAllThreads();
  const DType type = backends[0]->compute_type();
  const int64_t rows = 300, d = 77;
  std::mt19937_64 random(6);
  HostTensor x(*backends[0], DType::kF32, {rows, d}), weight(*backends[0], DType::kF32, {d});
  HostTensor gate(*backends[0], type, {rows, d}), up(*backends[0], type, {rows, d});
  for (HostTensor* tensor : {&x, &weight, &gate, &up}) tensor->FillRandom(random);
  const auto run = [&](Backend& backend, int64_t begin, int64_t end) {
    const std::vector<int64_t> shape = {end - begin, d};
    HostTensor y(backend, type, shape), rstd(backend, DType::kF32, {end - begin});
    HostTensor dx(backend, DType::kF32, shape), out(backend, type, shape);
    HostTensor dgate(backend, type, shape), dup(backend, type, shape);
    backend.Fill(dx.view, 0.5);
    const auto rows_of = [&](const HostTensor& tensor) { return tensor.Rows(begin, end); };
    backend.RmsNormForward(rows_of(x), weight.view, 1e-5, y.view, rstd.view);
    backend.RmsNormBackward(rows_of(x), weight.view, rstd.view, rows_of(gate), dx.view);
    backend.SwigluForward(rows_of(gate), rows_of(up), out.view);
    backend.SwigluBackward(rows_of(gate), rows_of(up), y.view, dgate.view, dup.view);
    backend.AddResidual(dx.view, out.view, dx.view);
    std::vector<std::string> results;
    for (int64_t i = 0; i < end - begin; ++i) {
      std::string bytes;
      for (const HostTensor* tensor : {&y, &rstd, &dx, &out, &dgate, &dup}) {
        bytes += tensor->RowBytes(i, i + 1);
      }
      results.push_back(bytes);
    }
    return results;
  };
  const auto expected = run(*backends[0], 0, rows);
  for (const auto& [begin, end] : std::vector<std::pair<int64_t, int64_t>>{
           {0, 1}, {7, 9}, {100, 227}, {33, 300}, {1, 129}, {299, 300}}) {
    const auto got = run(*backends[begin % kThreadCounts], begin, end);
    for (int64_t i = begin; i < end; ++i) ASSERT_EQ(got[i - begin], expected[i]) << "row " << i;
  }
}

TEST_P(ExactnessTest, TheOptimiserDoesNotDependOnThreads) {
  const auto backends = BackendsOfAllThreads();
  const int64_t count = 100003;
  std::mt19937_64 random(8);
  HostTensor gradient(*backends[0], DType::kF32, {count});
  gradient.FillRandom(random);
  std::vector<std::string> parameters;
  std::vector<double> norms;
  for (const auto& backend : backends) {
    HostTensor p(*backend, DType::kF32, {count}), m(*backend, DType::kF32, {count});
    HostTensor v(*backend, DType::kF32, {count});
    for (HostTensor* tensor : {&p, &m, &v}) backend->Fill(tensor->view, 0);
    AdamWSettings settings;
    settings.learning_rate = 0.01;
    backend->AdamW(settings, gradient.view, p.view, m.view, v.view);
    parameters.push_back(p.Bytes() + m.Bytes() + v.Bytes());
    norms.push_back(backend->SumOfSquares(gradient.view));
  }
  for (size_t i = 1; i < backends.size(); ++i) {
    EXPECT_EQ(parameters[i], parameters[0]);
    EXPECT_EQ(norms[i], norms[0]);
  }
}

// A caller that flushes denormals (some libraries switch that on) must not change results.
TEST_P(ExactnessTest, TheCallersFloatModeDoesNotMatter) {
  const auto backend = GetParam().make(1);
  HostTensor x(*backend, DType::kF32, {1, 33}), y(*backend, backend->compute_type(), {1, 33});
  HostTensor sum(*backend, DType::kF32, {1, 33});
  backend->Fill(x.view, 1e-39);
  backend->Fill(y.view, 0);
  const uint32_t mode = _mm_getcsr();
  _mm_setcsr(mode | 0x8040);
  backend->AddResidual(x.view, y.view, sum.view);
  _mm_setcsr(mode);
  EXPECT_EQ(sum.Bytes(), x.Bytes());
}

TEST_P(ExactnessTest, TheNumericsClassNamesWhatFixesTheBitsAndNotTheThreads) {
  const auto backends = BackendsOfAllThreads();
  const std::string name = backends[0]->numerics_class();
  for (const auto& backend : backends) EXPECT_EQ(backend->numerics_class(), name);
  EXPECT_EQ(name.find(GetParam().numerics), 0) << name;
  const std::string type = GetParam().fp8_base               ? "/fp8/"
                           : GetParam().type == DType::kBF16 ? "/bf16/"
                                                             : "/f32/";
  EXPECT_NE(name.find(type), std::string::npos) << name;
}

}  // namespace
}  // namespace deltaworks::trainer
