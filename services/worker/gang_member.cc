#include "services/worker/gang_member.h"

#include <utility>

#include "absl/time/time.h"
#include "services/worker/cancellation.h"
#include "trainer/base/status_macros.h"
#include "trainer/comm/nccl_communicator.h"
#include "trainer/comm/nccl_library.h"

namespace deltaworks::services {
namespace {

constexpr absl::Duration kMeetMax = absl::Minutes(10);
// As long as a parked job waits for its scheduler.
constexpr absl::Duration kCallMax = absl::Hours(1);
// Members hear of their grant within seconds of each other; who is early is no stranger.
constexpr int kRefusalsMax = 100;

}  // namespace

absl::StatusOr<std::unique_ptr<GangMember>> GangMember::Meet(
    const v1::Gang& gang, trainer::TcpListener& listener,
    std::shared_ptr<Cancellation> cancellation) {
  trainer::TcpCommunicator::Options options;
  options.timeout = kCallMax;
  options.gang.rank = gang.rank();
  options.gang.addresses.assign(gang.addresses().begin(), gang.addresses().end());
  options.gang.token = gang.token();
  options.gang.connect_timeout = kMeetMax;
  options.gang.refusals_max = kRefusalsMax;
  options.gang.cancelled = [&] { return cancellation->cancelled(); };
  DW_ASSIGN_OR_RETURN(std::unique_ptr<trainer::TcpCommunicator> hosts,
                      trainer::TcpCommunicator::Create(options, listener));
  return std::unique_ptr<GangMember>(new GangMember(std::move(hosts), std::move(cancellation)));
}

GangMember::GangMember(std::unique_ptr<trainer::TcpCommunicator> hosts,
                       std::shared_ptr<Cancellation> cancellation)
    : cancellation_(std::move(cancellation)), hosts_(std::move(hosts)) {
  cancellation_->OnCancel([this] { hosts_->Abort(); });
}

GangMember::~GangMember() {
  cancellation_->OnCancel(nullptr);
  // Like ncclCommDestroy a live one would wait for the others.
  if (devices_ != nullptr) devices_->Abort();
}

absl::Status GangMember::JoinDevices(std::unique_ptr<trainer::CollectiveDevice> device) {
  if (device == nullptr) return absl::OkStatus();
  DW_ASSIGN_OR_RETURN(const trainer::NcclLibrary library, trainer::NcclLibrary::Load());
  trainer::NcclCommunicator::Options options;
  options.rank = hosts_->rank();
  options.size = hosts_->size();
  options.timeout = kCallMax;
  options.control = hosts_.get();
  if (options.rank == 0) {
    DW_ASSIGN_OR_RETURN(options.id, library.MakeUniqueId());
  }
  DW_RETURN_IF_ERROR(hosts_->Broadcast(&options.id, sizeof(options.id), 0));
  device_ = std::move(device);
  DW_ASSIGN_OR_RETURN(devices_, trainer::NcclCommunicator::Create(options, library, *device_));
  return absl::OkStatus();
}

}  // namespace deltaworks::services
