// A TCP proxy on loopback whose network can be made bad while connections are open: delay for each direction,
// a black hole (half-open connections), a cut.
//
//   TcpProxy proxy(server.grpc_port());
//   auto client = ConnectGrpc({.address = proxy.address()}, ...);
//   proxy.Blackhole();
//   ... the client has to notice ...
//   proxy.Heal();
#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <string>
#include <thread>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"

namespace lockstep::testing {

// Thread-safe. One thread moves the bytes; whatever is set below is in force when the call returns.
class TcpProxy {
 public:
  // Listens on a free port of 127.0.0.1 and forwards every connection to `target_port` there. Crashes the
  // test when the system has no socket to give.
  explicit TcpProxy(uint16_t target_port);
  // Resets what is open.
  ~TcpProxy();
  TcpProxy(const TcpProxy&) = delete;
  TcpProxy& operator=(const TcpProxy&) = delete;

  uint16_t port() const { return port_; }
  std::string address() const;  // "127.0.0.1:port"

  // How long each byte is kept back from now on. Stays through black holes and cuts.
  void SetDelay(absl::Duration to_server, absl::Duration to_client);
  // No byte and no end of a connection passes, and nobody is told: what is sent waits, here and in the
  // kernel's buffers, and is delivered by Heal. New connections are accepted and are as silent.
  void Blackhole();
  // Resets every connection, and each new one as it comes, until Heal.
  void Cut();
  // Ends a black hole or a cut.
  void Heal();

  // Connections that are open now.
  int open() const;
  // Connections that were reset as they came, over all cuts, or because nobody listened on the target.
  int refused() const;

 private:
  enum class Mode { kForwarding, kBlackhole, kCut };
  struct Chunk {
    absl::Time due;
    std::string bytes;
    size_t sent = 0;
  };
  // One direction of a connection.
  struct Pipe {
    int from = -1;
    int to = -1;
    std::deque<Chunk> chunks;
    size_t queued_bytes = 0;
    bool ended = false;  // nothing more comes from `from`
    absl::Time end_due;  // of that
    bool end_passed = false;
  };
  struct Connection {
    Pipe to_server;
    Pipe to_client;
  };

  void Apply(absl::FunctionRef<void()> change);
  void Run();
  void Accept() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Moves what may be moved now; false when the connection is broken.
  bool Receive(Pipe* pipe, absl::Duration delay) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Deliver(Pipe* pipe, absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Forward() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ResetAll() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const uint16_t target_port_;
  int listener_ = -1;
  int wake_ = -1;  // an eventfd
  uint16_t port_ = 0;

  mutable Mutex mutex_;
  CondVar applied_;
  Mode mode_ ABSL_GUARDED_BY(mutex_) = Mode::kForwarding;
  absl::Duration delay_to_server_ ABSL_GUARDED_BY(mutex_);
  absl::Duration delay_to_client_ ABSL_GUARDED_BY(mutex_);
  uint64_t changes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t changes_seen_ ABSL_GUARDED_BY(mutex_) = 0;  // by the thread
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  int refused_ ABSL_GUARDED_BY(mutex_) = 0;
  std::list<Connection> connections_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace lockstep::testing
