// A small HTTP/1.1 server for the operational pages: GET and HEAD of a fixed set of paths, on Boost.Beast,
// one thread.
//
//   auto server = HttpServer::Start({.address = "127.0.0.1", .port = 0},
//                                   {{"/healthz", [] { return HttpResponse{.body = "ok\n"}; }}});
//
// Limits: 8 KiB of request header, no request body, 10 s per request by default, 256 connections; what
// exceeds one is answered with the matching status (or closed) and never queued.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace lockstep::http {

struct HttpResponse {
  unsigned status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};

// Called on the server's thread; must not block for long.
using HttpHandler = std::function<HttpResponse()>;

struct HttpServerOptions {
  std::string address = "127.0.0.1";  // an IP address
  uint16_t port = 0;                  // 0: any free one
  // From the first byte waited for to the last byte of the answer; a connection that takes longer is closed.
  absl::Duration request_timeout = absl::Seconds(10);
};

// Thread-safe.
class HttpServer {
 public:
  // Listens before it returns. INVALID_ARGUMENT for an address that is none, UNAVAILABLE when the port is
  // taken (says which).
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const HttpServerOptions& options,
                                                           std::map<std::string, HttpHandler> routes);
  // Closes every connection and joins the thread.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  uint16_t port() const;

 private:
  class Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace lockstep::http
