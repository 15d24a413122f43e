// Link: TCP between two processes of a platform that a test can break. It listens on a port of its
// own and passes what comes there to the port of a service, and back. Broken it is either a cable
// that was pulled out (nothing gets through, nobody is told) or a service that hangs up.
//
// What a connection had on the way when it is cut may be lost, as in a network. It owns one thread.
// Thread-safe.

#ifndef DELTAWORKS_TESTS_E2E_LINK_H_
#define DELTAWORKS_TESTS_E2E_LINK_H_

#include <list>
#include <string>
#include <thread>

#include "trainer/base/mutex.h"

namespace deltaworks::e2e {

class Link {
 public:
  enum class State {
    kPasses,
    // Connections that come are reset, those there were are too.
    kRefuses,
    // Connections are taken, and nothing passes on any. What was sent meanwhile arrives later.
    kSilent,
  };

  // `from` and `to`: the names of both ends. `port`: of the service, on 127.0.0.1.
  Link(std::string from, std::string to, int port);
  ~Link();
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  const std::string& from() const { return from_; }
  const std::string& to() const { return to_; }
  // 127.0.0.1:PORT, for whoever is at `from`.
  const std::string& address() const { return address_; }

  // Counts from when it returns.
  void Set(State state);
  // Resets every connection there is, whatever the state.
  void Cut();

 private:
  struct Connection;

  void Run();
  // Waits until there is something to do, and does it.
  void Turn(State state);
  void Accept(State state);
  void ResetAll();
  void Wake() const;

  const std::string from_;
  const std::string to_;
  const int port_;
  int listener_ = -1;
  int wake_ = -1;
  std::string address_;
  Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_) = State::kPasses;
  bool cut_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::list<Connection> connections_;  // The thread's.
  std::thread thread_;
};

}  // namespace deltaworks::e2e

#endif  // DELTAWORKS_TESTS_E2E_LINK_H_
