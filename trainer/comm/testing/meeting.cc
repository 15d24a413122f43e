#include "trainer/comm/testing/meeting.h"

#include <glog/logging.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "trainer/base/status_macros.h"
#include "trainer/comm/nccl_communicator.h"
#include "trainer/comm/nccl_library.h"
#include "trainer/comm/testing/host_device.h"

namespace deltaworks::trainer {
namespace {

class TcpMember final : public Member {
 public:
  explicit TcpMember(std::unique_ptr<TcpCommunicator> communicator)
      : communicator_(std::move(communicator)) {}
  Communicator& communicator() override { return *communicator_; }

 private:
  const std::unique_ptr<TcpCommunicator> communicator_;
};

class NcclMember final : public Member {
 public:
  // The id goes from rank 0 to the others over `control`, which then is the alarm.
  static absl::StatusOr<std::unique_ptr<Member>> Create(std::unique_ptr<TcpCommunicator> control,
                                                        absl::Duration timeout) {
    DW_ASSIGN_OR_RETURN(const NcclLibrary library, NcclLibrary::Load());
    auto member = std::make_unique<NcclMember>();
    NcclCommunicator::Options options;
    options.rank = control->rank();
    options.size = control->size();
    if (control->rank() == 0) {
      DW_ASSIGN_OR_RETURN(options.id, library.MakeUniqueId());
    }
    DW_RETURN_IF_ERROR(control->Broadcast(&options.id, sizeof(options.id), 0));
    options.timeout = timeout;
    options.connect_timeout = absl::Seconds(20);
    options.scratch_bytes = 1 << 20;  // So that a sum of a test takes several rounds.
    options.control = control.get();
    member->control_ = std::move(control);
    DW_ASSIGN_OR_RETURN(member->communicator_,
                        NcclCommunicator::Create(options, library, member->device_));
    return member;
  }
  Communicator& communicator() override { return *communicator_; }

 private:
  HostDevice device_;
  std::unique_ptr<TcpCommunicator> control_;
  std::unique_ptr<NcclCommunicator> communicator_;
};

}  // namespace

Meeting::Meeting(CommunicatorKind kind, int size, const std::string& host) : kind_(kind) {
  for (int rank = 0; rank < size; ++rank) {
    auto listener = TcpListener::Bind(host, 0);
    CHECK(listener.ok()) << listener.status();
    listeners_.push_back(*std::move(listener));
  }
}

TcpCommunicator::Options Meeting::options(int rank, absl::Duration timeout) const {
  TcpCommunicator::Options options;
  options.gang.rank = rank;
  for (const auto& each : listeners_) options.gang.addresses.push_back(each->address());
  // Nobody else knows the port of the first, so it will do for a secret.
  options.gang.token = absl::StrCat(absl::Dec(listeners_[0]->port(), absl::kZeroPad8));
  options.gang.token.resize(TcpGang::kTokenBytes, 't');
  options.gang.connect_timeout = absl::Seconds(20);
  options.timeout = timeout;
  return options;
}

absl::StatusOr<std::unique_ptr<Member>> Meeting::Join(int rank, absl::Duration timeout) {
  DW_ASSIGN_OR_RETURN(auto tcp, TcpCommunicator::Create(options(rank, timeout), listener(rank)));
  if (kind_ == CommunicatorKind::kNccl) return NcclMember::Create(std::move(tcp), timeout);
  return std::make_unique<TcpMember>(std::move(tcp));
}

}  // namespace deltaworks::trainer
