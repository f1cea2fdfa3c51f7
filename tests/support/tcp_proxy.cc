#include "tests/support/tcp_proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/check.h"

namespace lockstep::testing {
namespace {

// What one direction keeps before it stops reading, so that the sender feels it as it would a slow network.
constexpr size_t kMaxQueuedBytes = size_t{4} << 20;
constexpr absl::Duration kLongestPoll = absl::Seconds(1);

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

// The peer sees a reset, not an orderly end.
void Reset(int socket) {
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(socket, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  ::close(socket);
}

bool WouldBlock() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

void NoDelay(int socket) {
  const int on = 1;
  ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

// -1 when nobody listens there.
int ConnectTo(uint16_t port) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  LOCKSTEP_CHECK(socket >= 0, "no socket can be made");
  const sockaddr_in address = Loopback(port);
  // On loopback the kernel answers for the listener, so this doesn't wait for it.
  if (::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    ::close(socket);
    return -1;
  }
  NoDelay(socket);
  return socket;
}

}  // namespace

TcpProxy::TcpProxy(uint16_t target_port) : target_port_(target_port) {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sockaddr_in address = Loopback(0);
  socklen_t length = sizeof(address);
  auto* const bound = reinterpret_cast<sockaddr*>(&address);
  LOCKSTEP_CHECK(listener_ >= 0 && ::bind(listener_, bound, length) == 0 && ::listen(listener_, 128) == 0 &&
                     ::getsockname(listener_, bound, &length) == 0,
                 "the proxy can't listen on loopback");
  port_ = ntohs(address.sin_port);
  wake_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  LOCKSTEP_CHECK(wake_ >= 0, "no eventfd can be made");
  thread_ = std::thread([this] { Run(); });
}

TcpProxy::~TcpProxy() {
  Apply([this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { stopping_ = true; });
  thread_.join();
  ::close(listener_);
  ::close(wake_);
}

std::string TcpProxy::address() const { return absl::StrCat("127.0.0.1:", port_); }

void TcpProxy::SetDelay(absl::Duration to_server, absl::Duration to_client) {
  Apply([&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    delay_to_server_ = to_server;
    delay_to_client_ = to_client;
  });
}

void TcpProxy::Blackhole() {
  Apply([this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { mode_ = Mode::kBlackhole; });
}

void TcpProxy::Cut() {
  Apply([this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { mode_ = Mode::kCut; });
}

void TcpProxy::Heal() {
  Apply([this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { mode_ = Mode::kForwarding; });
}

int TcpProxy::open() const {
  MutexLock lock(&mutex_);
  return static_cast<int>(connections_.size());
}

int TcpProxy::refused() const {
  MutexLock lock(&mutex_);
  return refused_;
}

void TcpProxy::Apply(absl::FunctionRef<void()> change) {
  MutexLock lock(&mutex_);
  change();
  const uint64_t mine = ++changes_;
  const uint64_t one = 1;
  LOCKSTEP_CHECK(::write(wake_, &one, sizeof(one)) == sizeof(one), "the proxy's thread can't be woken");
  while (changes_seen_ < mine) applied_.Wait(&mutex_);
}

void TcpProxy::Run() {
  std::vector<pollfd> polled;
  while (true) {
    absl::Time next = absl::Now() + kLongestPoll;
    {
      MutexLock lock(&mutex_);
      uint64_t count = 0;
      while (::read(wake_, &count, sizeof(count)) > 0) {
      }
      if (stopping_ || mode_ == Mode::kCut) ResetAll();
      Accept();
      if (mode_ == Mode::kForwarding) Forward();
      changes_seen_ = changes_;
      applied_.SignalAll();
      if (stopping_) return;

      polled = {{wake_, POLLIN, 0}, {listener_, POLLIN, 0}};
      const auto add = [&](const Pipe& pipe) {
        if (!pipe.ended && pipe.queued_bytes < kMaxQueuedBytes) polled.push_back({pipe.from, POLLIN, 0});
        if (!pipe.chunks.empty()) {
          if (pipe.chunks.front().due <= absl::Now()) polled.push_back({pipe.to, POLLOUT, 0});
          next = std::min(next, pipe.chunks.front().due);
        } else if (pipe.ended && !pipe.end_passed) {
          next = std::min(next, pipe.end_due);
        }
      };
      if (mode_ == Mode::kForwarding) {
        for (const Connection& connection : connections_) {
          add(connection.to_server);
          add(connection.to_client);
        }
      }
    }
    // A chunk that is due and can't be written is waited for by POLLOUT.
    const bool writing = std::any_of(polled.begin(), polled.end(),
                                     [](const pollfd& entry) { return (entry.events & POLLOUT) != 0; });
    const absl::Duration wait = writing ? kLongestPoll : next - absl::Now();
    const int64_t wait_ms = absl::ToInt64Milliseconds(wait) + 1;
    ::poll(polled.data(), polled.size(), static_cast<int>(std::max<int64_t>(wait_ms, 0)));
  }
}

void TcpProxy::Accept() {
  while (true) {
    const int client = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) return;
    const int server = mode_ == Mode::kCut || stopping_ ? -1 : ConnectTo(target_port_);
    if (server < 0) {
      ++refused_;
      Reset(client);
      continue;
    }
    NoDelay(client);
    Connection connection;
    connection.to_server.from = connection.to_client.to = client;
    connection.to_server.to = connection.to_client.from = server;
    connections_.push_back(std::move(connection));
  }
}

bool TcpProxy::Receive(Pipe* pipe, absl::Duration delay) {
  char buffer[16 << 10];
  while (!pipe->ended && pipe->queued_bytes < kMaxQueuedBytes) {
    const ssize_t count = ::recv(pipe->from, buffer, sizeof(buffer), MSG_DONTWAIT);
    if (count < 0) return WouldBlock();
    const absl::Time due = absl::Now() + delay;
    if (count == 0) {
      pipe->ended = true;
      pipe->end_due = due;
      break;
    }
    pipe->chunks.push_back({due, std::string(buffer, static_cast<size_t>(count))});
    pipe->queued_bytes += static_cast<size_t>(count);
  }
  return true;
}

bool TcpProxy::Deliver(Pipe* pipe, absl::Time now) {
  while (!pipe->chunks.empty() && pipe->chunks.front().due <= now) {
    Chunk& chunk = pipe->chunks.front();
    const ssize_t count = ::send(pipe->to, chunk.bytes.data() + chunk.sent, chunk.bytes.size() - chunk.sent,
                                 MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count < 0) return WouldBlock();
    chunk.sent += static_cast<size_t>(count);
    pipe->queued_bytes -= static_cast<size_t>(count);
    if (chunk.sent < chunk.bytes.size()) return true;
    pipe->chunks.pop_front();
  }
  if (pipe->ended && !pipe->end_passed && pipe->chunks.empty() && pipe->end_due <= now) {
    ::shutdown(pipe->to, SHUT_WR);
    pipe->end_passed = true;
  }
  return true;
}

void TcpProxy::Forward() {
  for (auto it = connections_.begin(); it != connections_.end();) {
    Connection& connection = *it;
    bool whole =
        Receive(&connection.to_server, delay_to_server_) && Receive(&connection.to_client, delay_to_client_);
    const absl::Time now = absl::Now();
    whole = whole && Deliver(&connection.to_server, now) && Deliver(&connection.to_client, now);
    if (whole && !(connection.to_server.end_passed && connection.to_client.end_passed)) {
      ++it;
      continue;
    }
    for (const int socket : {connection.to_server.from, connection.to_server.to}) {
      if (whole) {
        ::close(socket);
      } else {
        Reset(socket);
      }
    }
    it = connections_.erase(it);
  }
}

void TcpProxy::ResetAll() {
  for (const Connection& connection : connections_) {
    Reset(connection.to_server.from);
    Reset(connection.to_server.to);
  }
  connections_.clear();
}

}  // namespace lockstep::testing
