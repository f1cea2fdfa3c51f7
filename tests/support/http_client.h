// A blocking HTTP client of the crudest kind: tests want to send what no proper client would.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "tests/support/eventually.h"

namespace lockstep::testing {

struct HttpAnswer {
  int status = 0;    // 0: none came
  std::string head;  // status line and headers
  std::string body;
};

// One connection to 127.0.0.1. Not thread-safe.
class HttpConnection {
 public:
  explicit HttpConnection(uint16_t port);
  ~HttpConnection();
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;

  bool connected() const { return socket_ >= 0; }
  // False when the peer is gone.
  bool Send(absl::string_view bytes);
  // Reads one answer, its body as long as content-length says (none for a HEAD). Status 0 when the peer
  // closes before, or after `patience`.
  HttpAnswer ReadAnswer(bool head = false, absl::Duration patience = kPatience);
  // Whether the peer closes the connection, sending nothing more, before `patience` is over.
  bool ClosedByPeer(absl::Duration patience = kPatience);

 private:
  // Appends to buffer_; false at the end or at `deadline`.
  bool ReadSome(absl::Time deadline);

  int socket_ = -1;
  std::string buffer_;
};

// GET on a connection of its own.
HttpAnswer HttpGet(uint16_t port, absl::string_view path);

// The value of the sample "name{labels}" (exactly as it stands there) on a page of metrics; -1 when it is not
// there.
double MetricValue(absl::string_view page, absl::string_view sample);

}  // namespace lockstep::testing
