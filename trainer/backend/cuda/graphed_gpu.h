// GraphedGpu: a Gpu that collects what it is asked for into sequences, and issues one that came
// before as a graph: all of it by one call, and without the card waiting for the host between two
// kernels. For passes of so few rows that the card would be done before the host is: decoding, and
// training of small models.
//
// A sequence ends after an operation (Issued) with at least sequence_items launches, products,
// copies and zeros, and before anything that waits. Two sequences are the same if all that decides
// what they do is: the kernels, their grids and arguments bit by bit, the products, where copies
// come from and go to. The first time a sequence is issued piece by piece, the next time it is kept
// as a graph. So nothing depends on whether a graph was used, and what does not repeat, such as
// passes over documents of ever other lengths, costs nothing but the comparison.
//
// What is copied to the device passes through a block of pinned memory, which is used from its
// beginning again after each wait: so the copies of the next pass come from the same places, with
// other contents, and depend on nobody's memory.
//
// Thread-compatible.

#ifndef DELTAWORKS_TRAINER_BACKEND_CUDA_GRAPHED_GPU_H_
#define DELTAWORKS_TRAINER_BACKEND_CUDA_GRAPHED_GPU_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "trainer/backend/cuda/gpu.h"

namespace deltaworks::trainer::cuda {

struct GraphOptions {
  int64_t sequence_items = 64;
  // How often a sequence is issued piece by piece before it becomes a graph. Once at least on a
  // card: libraries load what they need when it is first asked for, which a graph does not allow.
  int64_t pieces_first = 1;
  int64_t graphs_max = 1024;  // Then the one longest unused goes.
  int64_t pinned_bytes = int64_t{1} << 20;
};

// Of sequences.
struct GraphCounts {
  int64_t issued = 0;  // Piece by piece.
  int64_t kept = 0;    // Made a graph.
  int64_t runs = 0;    // Of graphs.
};

class GraphedGpu final : public Gpu, private Launcher {
 public:
  GraphedGpu(std::unique_ptr<GraphGpu> gpu, const GraphOptions& options);
  ~GraphedGpu() override;

  const GraphCounts& counts() const { return counts_; }

  std::string numerics() const override { return gpu_->numerics(); }
  Stream stream() override { return this; }
  absl::StatusOr<void*> Allocate(int64_t bytes) override;
  void Free(void* memory) override;
  void CopyToDevice(const void* host, void* device, int64_t bytes) override;
  void CopyRowsToDevice(const void* host, int64_t rows, int64_t row_bytes, void* device,
                        int64_t device_row_bytes) override;
  void CopyToHost(const void* device, void* host, int64_t bytes) override;
  void CopyOnDevice(const void* from, void* to, int64_t bytes) override;
  void Zero(void* device, int64_t bytes) override;
  void Multiply(const Product& product) override;
  void Issued(const char* operation) override;
  void Wait() override;
  absl::Status Synchronize() override;

 private:
  // A sequence, each item one behind the other as its kind and all that it says, in words: what is
  // compared, and what it is issued from.
  using Words = std::vector<uint64_t>;
  enum class Kind : uint64_t { kLaunch, kProduct, kUpload, kCopy, kZero };
  struct Mark {  // An operation ends here.
    size_t words;
    const char* operation;
  };
  struct Known {
    int64_t issued = 0;
    Words words;                   // Of the graph.
    std::unique_ptr<Graph> graph;  // nullptr: not yet.
    int64_t used = 0;              // When, in runs.
  };

  void Launch(const KernelLaunch& launch) override;
  template <typename... Fields>
  void Add(Kind kind, Fields... fields);

  // Issues what was collected.
  void Flush();
  void IssuePieces();
  // The item at `at`; returns where the next one is.
  size_t IssueItem(size_t at);
  size_t IssueLaunch(size_t at);
  // nullptr if the card could not.
  std::unique_ptr<Graph> Keep();
  void MakeRoomForGraph();
  // All that was issued has happened.
  void Waited() { pinned_used_ = 0; }

  const std::unique_ptr<GraphGpu> gpu_;
  const GraphOptions options_;
  Words words_;
  int64_t items_ = 0;
  std::vector<Mark> marks_;
  absl::flat_hash_map<uint64_t, Known> known_;  // By the hash of its words.
  int64_t graphs_ = 0;
  bool can_keep_ = true;
  GraphCounts counts_;
  char* pinned_ = nullptr;
  int64_t pinned_used_ = 0;
};

}  // namespace deltaworks::trainer::cuda

#endif  // DELTAWORKS_TRAINER_BACKEND_CUDA_GRAPHED_GPU_H_
