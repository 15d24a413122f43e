// What only TcpCommunicator has: meeting each other among strangers, and wires that break at bad
// moments. Ranks are threads here; what all implementations share is in
// communicator_contract_test.cc.

#include "trainer/comm/tcp_communicator.h"

#include <poll.h>
#include <sys/socket.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "trainer/comm/message_header.h"
#include "trainer/comm/testing/meeting.h"

namespace deltaworks::trainer {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr absl::Duration kLong = absl::Seconds(20);

std::string Said(const absl::Status& status) { return std::string(status.message()); }

void InParallel(const std::vector<std::function<void()>>& bodies) {
  std::vector<std::thread> threads;
  for (const auto& body : bodies) threads.emplace_back(body);
  for (std::thread& each : threads) each.join();
}

// A connection to `address` as anybody can make it.
Socket Connect(const std::string& address) {
  absl::StatusOr<Socket> socket = BeginConnect(address, 0);
  EXPECT_TRUE(socket.ok()) << socket.status();
  pollfd polled = {socket->fd(), POLLOUT, 0};
  EXPECT_EQ(poll(&polled, 1, 10'000), 1);
  EXPECT_TRUE(ConnectResult(*socket, address).ok());
  return *std::move(socket);
}

void SendAll(const Socket& socket, absl::string_view bytes) {
  EXPECT_EQ(send(socket.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL), bytes.size());
}

// What comes until the other side closes; "still open" if it does not.
std::string ReceiveToEnd(const Socket& socket) {
  std::string all;
  while (true) {
    pollfd polled = {socket.fd(), POLLIN, 0};
    if (poll(&polled, 1, 10'000) != 1) return "still open";
    char buffer[4096];
    const ssize_t got = recv(socket.fd(), buffer, sizeof(buffer), 0);
    if (got <= 0) return all;
    all.append(buffer, got);
  }
}

// Rank 0 is a TcpCommunicator; rank 1 a script with a connection that has been let in.
absl::Status CallAgainstScript(const std::function<absl::Status(Communicator& communicator)>& call,
                               const std::function<void(Socket connection)>& script) {
  Meeting meeting(CommunicatorKind::kTcp, 2);
  absl::Status status;
  InParallel({[&] {
                auto communicator =
                    TcpCommunicator::Create(meeting.options(0, kLong), meeting.listener(0));
                status = communicator.ok() ? call(**communicator) : communicator.status();
              },
              [&] {
                auto connections = MeetGang(meeting.options(1, kLong).gang, meeting.listener(1));
                ASSERT_TRUE(connections.ok()) << connections.status();
                script(std::move((*connections)[0]));
              }});
  return status;
}

absl::string_view BytesOf(const MessageHeader& header) {
  return {reinterpret_cast<const char*>(&header), sizeof(header)};
}

TEST(TcpRendezvousTest, AnotherTokenIsRefusedAndBothSidesSayWhy) {
  Meeting meeting(CommunicatorKind::kTcp, 2);
  absl::Status status[2];
  InParallel({[&] {
                TcpGang gang = meeting.options(0, kLong).gang;
                gang.connect_timeout = absl::Seconds(1);
                status[0] = MeetGang(gang, meeting.listener(0)).status();
              },
              [&] {
                TcpGang gang = meeting.options(1, kLong).gang;
                gang.token.back() ^= 1;
                gang.refusals_max = 3;
                status[1] = MeetGang(gang, meeting.listener(1)).status();
              }});
  EXPECT_TRUE(absl::IsDeadlineExceeded(status[0])) << status[0];
  EXPECT_THAT(Said(status[0]), AllOf(StartsWith("rank 0 of 2: connect: 1 of 1 peers"),
                                     HasSubstr("rank 1; 3 connections to us were refused")));
  EXPECT_TRUE(absl::IsPermissionDenied(status[1])) << status[1];
  EXPECT_THAT(Said(status[1]), AllOf(StartsWith("rank 1 of 2: connect: rank 0 at 127.0.0.1:"),
                                     HasSubstr("3 times"), HasSubstr("another token?")));
}

TEST(TcpRendezvousTest, StrangersAreClosedWithoutAWordAndTheGangMeets) {
  Meeting meeting(CommunicatorKind::kTcp, 2);
  const std::string address = meeting.listener(0).address();
  std::vector<Socket> silent;
  for (int i = 0; i < 20; ++i) silent.push_back(Connect(address));
  const Socket talker = Connect(address);
  SendAll(talker, std::string(1000, 'x'));
  const Socket request = Connect(address);
  SendAll(request, "GET / HTTP/1.1\r\n\r\n");
  Connect(address);  // Gone at once.
  absl::Status status[2];
  std::string talker_heard;
  const auto meet = [&](int rank) {
    auto options = meeting.options(rank, kLong);
    options.gang.unproven_max = 4;
    auto communicator = TcpCommunicator::Create(options, meeting.listener(rank));
    status[rank] = communicator.ok() ? (*communicator)->Barrier() : communicator.status();
  };
  InParallel({[&] { meet(0); }, [&] { meet(1); }});
  EXPECT_TRUE(status[0].ok()) << status[0];
  EXPECT_TRUE(status[1].ok()) << status[1];
  EXPECT_EQ(ReceiveToEnd(talker), "");
  for (const Socket& each : silent) EXPECT_EQ(ReceiveToEnd(each), "");
}

TEST(TcpRendezvousTest, ASilentStrangerIsClosedWhenItsTimeIsUp) {
  Meeting meeting(CommunicatorKind::kTcp, 2);
  const Socket silent = Connect(meeting.listener(0).address());
  const Socket short_of_one = Connect(meeting.listener(0).address());
  SendAll(short_of_one, std::string(63, 'x'));
  TcpGang gang = meeting.options(0, kLong).gang;
  gang.hello_timeout = absl::Milliseconds(50);
  gang.connect_timeout = absl::Milliseconds(500);
  const absl::Status status = MeetGang(gang, meeting.listener(0)).status();
  EXPECT_EQ(ReceiveToEnd(silent), "");
  EXPECT_EQ(ReceiveToEnd(short_of_one), "");
  EXPECT_THAT(Said(status), HasSubstr("2 connections to us were refused"));
}

TEST(TcpRendezvousTest, WhoIsMissingIsNamedWithWhatWasTried) {
  Meeting meeting(CommunicatorKind::kTcp, 3);
  TcpGang gang = meeting.options(1, kLong).gang;
  gang.connect_timeout = absl::Milliseconds(200);
  // A port that was free a moment ago, and that nobody listens on.
  gang.addresses[0] = (*TcpListener::Bind("127.0.0.1", 0))->address();
  const absl::Status status = MeetGang(gang, meeting.listener(1)).status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(Said(status),
              AllOf(HasSubstr("2 of 2 peers are missing after 200ms: rank 0 at 127.0.0.1:"),
                    HasSubstr("Connection refused"), HasSubstr("rank 2")));
}

TEST(TcpRendezvousTest, AMeetingIsCalledOff) {
  Meeting meeting(CommunicatorKind::kTcp, 2);
  TcpGang gang = meeting.options(0, kLong).gang;
  int asked = 0;
  gang.cancelled = [&asked] { return ++asked == 3; };
  const absl::Status status = MeetGang(gang, meeting.listener(0)).status();
  EXPECT_TRUE(absl::IsAborted(status)) << status;
  EXPECT_THAT(Said(status), HasSubstr("rank 0 of 2: connect: the meeting is off"));
}

TEST(TcpRendezvousTest, APeerThatExpectsAnotherGangIsAnError) {
  Meeting meeting(CommunicatorKind::kTcp, 2);
  absl::Status status[2];
  const auto meet = [&](int rank, int more) {
    TcpGang gang = meeting.options(rank, kLong).gang;
    gang.connect_timeout = absl::Seconds(1);
    gang.addresses.resize(2 + more, "127.0.0.1:1");
    status[rank] = MeetGang(gang, meeting.listener(rank)).status();
  };
  InParallel({[&] { meet(0, 0); }, [&] { meet(1, 1); }});
  EXPECT_TRUE(absl::IsInvalidArgument(status[0])) << status[0];
  EXPECT_THAT(Said(status[0]), HasSubstr("says it is rank 1 of 3"));
  EXPECT_FALSE(status[1].ok());
}

TEST(TcpRendezvousTest, ARankThatTwoClaimIsTakenOnce) {
  Meeting meeting(CommunicatorKind::kTcp, 3);
  const std::string nobody = (*TcpListener::Bind("127.0.0.1", 0))->address();
  absl::Status status[3];
  const auto meet = [&](int place, int rank) {
    TcpGang gang = meeting.options(rank, kLong).gang;
    gang.addresses[1] = nobody;
    gang.refusals_max = 2;
    gang.connect_timeout = absl::Milliseconds(500);
    status[place] = MeetGang(gang, meeting.listener(place)).status();
  };
  InParallel({[&] { meet(0, 0); }, [&] { meet(1, 2); }, [&] { meet(2, 2); }});
  // Who is first waits for rank 1, which never comes; rank 0 closes on the other.
  EXPECT_THAT(Said(status[0]), AllOf(HasSubstr("1 of 2 peers are missing after 500ms: rank 1;"),
                                     HasSubstr("2 connections to us were refused")));
  EXPECT_EQ(absl::IsPermissionDenied(status[1]) + absl::IsPermissionDenied(status[2]), 1)
      << status[1] << "; " << status[2];
  EXPECT_EQ(absl::IsDeadlineExceeded(status[1]) + absl::IsDeadlineExceeded(status[2]), 1);
}

TEST(TcpRendezvousTest, FieldsOutOfBoundsAreRefused) {
  Meeting meeting(CommunicatorKind::kTcp, 2);
  const TcpGang good = meeting.options(0, kLong).gang;
  const auto expect_refused = [&](const std::function<void(TcpGang&)>& spoil,
                                  const std::string& message) {
    TcpGang gang = good;
    spoil(gang);
    const absl::Status status = MeetGang(gang, meeting.listener(0)).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(Said(status), HasSubstr(message));
  };
  expect_refused([](TcpGang& g) { g.addresses.clear(); }, "size is 0, want 1..1024");
  expect_refused([](TcpGang& g) { g.addresses.resize(1025); }, "size is 1025, want 1..1024");
  expect_refused([](TcpGang& g) { g.rank = 2; }, "rank is 2, want 0..1");
  expect_refused([](TcpGang& g) { g.rank = -1; }, "rank is -1, want 0..1");
  expect_refused([](TcpGang& g) { g.token = "short"; }, "bytes of token is 5, want 32..32");
  expect_refused([](TcpGang& g) { g.unproven_max = 0; }, "unproven_max is 0");
  expect_refused([](TcpGang& g) { g.refusals_max = 101; }, "refusals_max is 101");
  for (const char* bad : {"", "nowhere", "1.2.3.4:", ":5", "1.2.3.4:0", "1.2.3.4:65536", "::1:7"}) {
    expect_refused([&](TcpGang& g) { g.rank = 1, g.addresses[0] = bad; }, "want host:port");
  }
  EXPECT_TRUE(absl::IsInvalidArgument(TcpListener::Bind("nowhere", 0).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(TcpListener::Bind("127.0.0.1", 65536).status()));
  EXPECT_TRUE(
      absl::IsUnavailable(TcpListener::Bind("127.0.0.1", meeting.listener(0).port()).status()));
}

TEST(TcpRendezvousTest, AGangMeetsOverIpV6) {
  if (!TcpListener::Bind("::1", 0).ok()) GTEST_SKIP() << "this machine has no IPv6";
  Meeting meeting(CommunicatorKind::kTcp, 2, "::1");
  EXPECT_THAT(meeting.listener(0).address(), StartsWith("[::1]:"));
  float sums[2] = {1, 2};
  const auto sum = [&](int rank) {
    auto communicator =
        TcpCommunicator::Create(meeting.options(rank, kLong), meeting.listener(rank));
    ASSERT_TRUE(communicator.ok()) << communicator.status();
    EXPECT_TRUE((*communicator)->OrderedSum(&sums[rank], 1).ok());
  };
  InParallel({[&] { sum(0); }, [&] { sum(1); }});
  EXPECT_EQ(sums[0], 3);
  EXPECT_EQ(sums[1], 3);
}

TEST(TcpRendezvousTest, AListenerServesOneGangAfterAnother) {
  Meeting meeting(CommunicatorKind::kTcp, 2);
  for (const char* token : {"first", "second"}) {
    const auto meet = [&](int rank) {
      auto options = meeting.options(rank, kLong);
      options.gang.token = token;
      options.gang.token.resize(TcpGang::kTokenBytes, '.');
      auto communicator = TcpCommunicator::Create(options, meeting.listener(rank));
      ASSERT_TRUE(communicator.ok()) << communicator.status();
      EXPECT_TRUE((*communicator)->Barrier().ok());
    };
    InParallel({[&] { meet(0); }, [&] { meet(1); }});
  }
}

TEST(TcpCommunicatorTest, AConnectionClosedInTheMiddleOfAHeaderIsUnavailable) {
  const absl::Status status =
      CallAgainstScript([](Communicator& communicator) { return communicator.Barrier(); },
                        [](Socket connection) { SendAll(connection, std::string(10, 'x')); });
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(Said(status),
              AllOf(StartsWith("rank 0 of 2: barrier 1: rank 1: "), HasSubstr("received 10"),
                    HasSubstr("want 64 bytes"), HasSubstr("gone by now: rank 1")));
}

TEST(TcpCommunicatorTest, AConnectionClosedInTheMiddleOfASumIsUnavailable) {
  constexpr int64_t kCount = 100'000;
  MessageHeader header;
  header.sequence = 1;
  header.operation = Operation::kOrderedSum;
  header.count = kCount;
  header.rank = 1;
  header.size = 2;
  std::vector<float> data(kCount, 1.0f);
  const absl::Status status = CallAgainstScript(
      [&](Communicator& communicator) { return communicator.OrderedSum(data.data(), kCount); },
      [&](Socket connection) {
        SendAll(connection, BytesOf(header));
        SendAll(connection, std::string(1001, '\0'));
      });
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(Said(status), StartsWith("rank 0 of 2: sum 1 of 100000 floats: rank 1: "));
}

TEST(TcpCommunicatorTest, RubbishWhereAHeaderBeginsIsAFailedPrecondition) {
  const absl::Status status =
      CallAgainstScript([](Communicator& communicator) { return communicator.Barrier(); },
                        [](Socket connection) {
                          SendAll(connection, std::string(64, 'x'));
                          ReceiveToEnd(connection);
                        });
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(Said(status), HasSubstr("rank 1 sent 7878787878787878 where a header begins"));
}

TEST(TcpCommunicatorTest, AHeaderOfAnotherRankIsAFailedPrecondition) {
  MessageHeader header;
  header.sequence = 1;
  header.rank = 0;
  header.size = 2;
  const absl::Status status =
      CallAgainstScript([](Communicator& communicator) { return communicator.Barrier(); },
                        [&](Socket connection) {
                          SendAll(connection, BytesOf(header));
                          ReceiveToEnd(connection);
                        });
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(Said(status), HasSubstr("rank 1 says it is rank 0 of 2"));
}

TEST(TcpCommunicatorTest, PeerStatusNamesWhoLeft) {
  Meeting meeting(CommunicatorKind::kTcp, 2);
  std::unique_ptr<TcpCommunicator> ranks[2];
  const auto meet = [&](int rank) {
    auto communicator =
        TcpCommunicator::Create(meeting.options(rank, kLong), meeting.listener(rank));
    ASSERT_TRUE(communicator.ok()) << communicator.status();
    ranks[rank] = *std::move(communicator);
  };
  InParallel({[&] { meet(0); }, [&] { meet(1); }});
  EXPECT_TRUE(ranks[0]->PeerStatus().ok()) << ranks[0]->PeerStatus();
  ranks[1]->Abort();
  EXPECT_TRUE(absl::IsAborted(ranks[1]->PeerStatus()));
  // The news travels through the system: it is there after a barrier has failed on it.
  EXPECT_TRUE(absl::IsUnavailable(ranks[0]->Barrier()));
  EXPECT_THAT(Said(ranks[0]->PeerStatus()), HasSubstr("rank 1"));
}

}  // namespace
}  // namespace deltaworks::trainer
