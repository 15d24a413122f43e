// GangMember: a worker's place in the gang of one attempt: it has met the others and is connected
// to each of them (trainer/comm/communicator.h).
//
// They wait for each other as long as the scheduler lets them: who died is noticed by his
// connection, who is silent loses his lease, and then the others are told to stop, which cancels
// what they wait for.

#ifndef DELTAWORKS_SERVICES_WORKER_GANG_MEMBER_H_
#define DELTAWORKS_SERVICES_WORKER_GANG_MEMBER_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/deltaworks/v1/worker_service.pb.h"
#include "services/worker/cancellation.h"
#include "trainer/comm/collective_device.h"
#include "trainer/comm/communicator.h"
#include "trainer/comm/tcp_communicator.h"
#include "trainer/comm/tcp_socket.h"

namespace deltaworks::services {

class GangMember {
 public:
  // Waits until all members are there, at most ten minutes. `listener` is where
  // gang.addresses(rank) leads. Cancellation ends the meeting and all that is said later. Errors
  // are trainer::MeetGang's.
  static absl::StatusOr<std::unique_ptr<GangMember>> Meet(
      const v1::Gang& gang, trainer::TcpListener& listener,
      std::shared_ptr<Cancellation> cancellation);
  ~GangMember();

  // Connects the members' GPUs through NCCL, if `device` is one (nullptr: memory is the host's).
  // All of them call it together. Errors are NcclLibrary's, NcclCommunicator's and those of who is
  // gone.
  absl::Status JoinDevices(std::unique_ptr<trainer::CollectiveDevice> device);

  // To be called by all where they end together, before they go: nobody closes what another still
  // reads. Who is gone already does not matter.
  void Part() { hosts_->Barrier().IgnoreError(); }

  int rank() const { return hosts_->rank(); }
  // Over host memory, and over that of the backend's device. One thread at a time.
  trainer::Communicator& of_hosts() { return *hosts_; }
  trainer::Communicator& of_devices() { return devices_ == nullptr ? of_hosts() : *devices_; }
  // OK while all the others are connected.
  absl::Status PeerStatus() const { return hosts_->PeerStatus(); }

 private:
  GangMember(std::unique_ptr<trainer::TcpCommunicator> hosts,
             std::shared_ptr<Cancellation> cancellation);

  const std::shared_ptr<Cancellation> cancellation_;
  const std::unique_ptr<trainer::TcpCommunicator> hosts_;
  std::unique_ptr<trainer::CollectiveDevice> device_;
  // Aborted with `hosts_`, which is its alarm.
  std::unique_ptr<trainer::Communicator> devices_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_WORKER_GANG_MEMBER_H_
