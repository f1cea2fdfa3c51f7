#include "tests/support/http_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"

namespace lockstep::testing {
namespace {

size_t ContentLength(absl::string_view head) {
  for (absl::string_view line : absl::StrSplit(head, "\r\n")) {
    size_t length = 0;
    if (absl::StartsWithIgnoreCase(line, "content-length:") &&
        absl::SimpleAtoi(line.substr(line.find(':') + 1), &length)) {
      return length;
    }
  }
  return 0;
}

}  // namespace

HttpConnection::HttpConnection(uint16_t port) {
  socket_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (socket_ >= 0 && ::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    ::close(socket_);
    socket_ = -1;
  }
}

HttpConnection::~HttpConnection() {
  if (socket_ >= 0) ::close(socket_);
}

bool HttpConnection::Send(absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

bool HttpConnection::ReadSome(absl::Time deadline) {
  pollfd ready = {socket_, POLLIN, 0};
  const int64_t wait_ms = std::max<int64_t>(0, absl::ToInt64Milliseconds(deadline - absl::Now()));
  if (::poll(&ready, 1, static_cast<int>(wait_ms)) != 1) return false;
  char bytes[16384];
  const ssize_t read = ::recv(socket_, bytes, sizeof(bytes), 0);
  if (read <= 0) return false;
  buffer_.append(bytes, static_cast<size_t>(read));
  return true;
}

HttpAnswer HttpConnection::ReadAnswer(bool head, absl::Duration patience) {
  const absl::Time deadline = absl::Now() + patience;
  size_t end = 0;
  while ((end = buffer_.find("\r\n\r\n")) == std::string::npos) {
    if (!ReadSome(deadline)) return {};
  }
  HttpAnswer answer;
  answer.head = buffer_.substr(0, end);
  const size_t length = head ? 0 : ContentLength(answer.head);
  while (buffer_.size() < end + 4 + length) {
    if (!ReadSome(deadline)) return {};
  }
  answer.body = buffer_.substr(end + 4, length);
  buffer_.erase(0, end + 4 + length);
  const std::vector<absl::string_view> status_line = absl::StrSplit(answer.head, absl::MaxSplits(' ', 2));
  if (status_line.size() < 2 || !absl::SimpleAtoi(status_line[1].substr(0, 3), &answer.status)) return {};
  return answer;
}

bool HttpConnection::ClosedByPeer(absl::Duration patience) {
  const absl::Time deadline = absl::Now() + patience;
  const bool more = ReadSome(deadline);
  return !more && absl::Now() < deadline;
}

HttpAnswer HttpGet(uint16_t port, absl::string_view path) {
  HttpConnection connection(port);
  if (!connection.connected()) return {};
  connection.Send(absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
  return connection.ReadAnswer();
}

double MetricValue(absl::string_view page, absl::string_view sample) {
  for (absl::string_view line : absl::StrSplit(page, '\n')) {
    double value = 0;
    if (absl::ConsumePrefix(&line, sample) && absl::StartsWith(line, " ") &&
        absl::SimpleAtod(absl::StripAsciiWhitespace(line), &value)) {
      return value;
    }
  }
  return -1;
}

}  // namespace lockstep::testing
