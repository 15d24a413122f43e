// ReportBuffer: numbered things to report, kept until acknowledged, bounded. Numbers begin at 1.
// When it is full the oldest is dropped and counted; the others keep their numbers.

#ifndef DELTAWORKS_SERVICES_WORKER_REPORT_BUFFER_H_
#define DELTAWORKS_SERVICES_WORKER_REPORT_BUFFER_H_

#include <cstdint>
#include <deque>
#include <utility>

namespace deltaworks::services {

template <typename T>
class ReportBuffer {
 public:
  explicit ReportBuffer(int64_t size_max) : size_max_(size_max) {}

  void Add(T item) {
    if (size() == size_max_) {
      DropFirst();
      ++dropped_;
    }
    items_.push_back(std::move(item));
  }

  // Numbers up to `n` are durable. Larger than what was given out: everything is.
  void Acknowledge(int64_t n) {
    while (!items_.empty() && first_n_ <= n) DropFirst();
  }

  const std::deque<T>& items() const { return items_; }
  // Of the oldest kept, or of the next to come.
  int64_t first_n() const { return first_n_; }
  int64_t size() const { return static_cast<int64_t>(items_.size()); }
  bool empty() const { return items_.empty(); }
  int64_t dropped() const { return dropped_; }

 private:
  void DropFirst() {
    items_.pop_front();
    ++first_n_;
  }

  const int64_t size_max_;
  std::deque<T> items_;
  int64_t first_n_ = 1;
  int64_t dropped_ = 0;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_REPORT_BUFFER_H_
