#include "server/http/http_server.h"

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

namespace lockstep::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace bhttp = boost::beast::http;
using tcp = asio::ip::tcp;

constexpr size_t kMostConnections = 256;
constexpr size_t kMostHeaderBytes = 8 * 1024;
// After a failure to accept (no descriptors left, say), so that it does not spin.
constexpr std::chrono::milliseconds kAcceptPause(100);

using Routes = std::map<std::string, HttpHandler>;
using BeastResponse = bhttp::response<bhttp::string_body>;

// Requests are pipelined one after the other on a connection; everything runs on the server's one thread.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(tcp::socket socket, const Routes* routes, std::chrono::nanoseconds timeout,
             std::atomic<size_t>* count)
      : stream_(std::move(socket)), routes_(routes), timeout_(timeout), count_(count) {
    count_->fetch_add(1);
  }
  ~Connection() { count_->fetch_sub(1); }

  void Read() {
    parser_.emplace();
    parser_->header_limit(kMostHeaderBytes);
    parser_->body_limit(0);
    stream_.expires_after(timeout_);
    bhttp::async_read(stream_, buffer_, *parser_,
                      [self = shared_from_this()](beast::error_code error, size_t) { self->OnRead(error); });
  }

 private:
  void OnRead(beast::error_code error) {
    if (error == bhttp::error::body_limit) return Respond(Plain(413, "requests have no body here\n"), false);
    if (error == bhttp::error::header_limit) return Respond(Plain(431, "request header too large\n"), false);
    if (error.category() == bhttp::make_error_code(bhttp::error::end_of_stream).category() &&
        error != bhttp::error::end_of_stream && error) {
      return Respond(Plain(400, "not an HTTP request\n"), false);
    }
    if (error) return;  // closed or timed out
    const auto& request = parser_->get();
    const bool keep_alive = request.keep_alive();
    if (request.method() != bhttp::verb::get && request.method() != bhttp::verb::head) {
      return Respond(Plain(405, "only GET and HEAD\n"), keep_alive);
    }
    std::string path(request.target());
    if (const size_t query = path.find('?'); query != std::string::npos) path.resize(query);
    const auto route = routes_->find(path);
    if (route == routes_->end()) {
      std::string known = "no such page; there are:\n";
      for (const auto& [name, handler] : *routes_) absl::StrAppend(&known, name, "\n");
      return Respond(Plain(404, std::move(known)), keep_alive);
    }
    Respond(route->second(), keep_alive);
  }

  static HttpResponse Plain(unsigned status, std::string body) {
    HttpResponse response;
    response.status = status;
    response.body = std::move(body);
    return response;
  }

  void Respond(HttpResponse response, bool keep_alive) {
    const bool head = parser_->get().method() == bhttp::verb::head;
    response_.emplace();
    response_->version(11);
    response_->result(response.status);
    response_->set(bhttp::field::content_type, response.content_type);
    response_->set(bhttp::field::cache_control, "no-store");
    if (response.status == 405) response_->set(bhttp::field::allow, "GET, HEAD");
    response_->keep_alive(keep_alive);
    response_->body() = std::move(response.body);
    response_->prepare_payload();
    if (head) response_->body().clear();  // the length stays as announced
    serializer_.emplace(*response_);
    serializer_->split(head);
    auto done = [self = shared_from_this(), keep_alive](beast::error_code error, size_t) {
      if (!error && keep_alive) return self->Read();
      beast::error_code ignored;  // the peer may be gone already
      self->stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
    };
    if (head) {
      bhttp::async_write_header(stream_, *serializer_, std::move(done));
    } else {
      bhttp::async_write(stream_, *serializer_, std::move(done));
    }
  }

  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  const Routes* const routes_;
  const std::chrono::nanoseconds timeout_;
  std::atomic<size_t>* const count_;
  std::optional<bhttp::request_parser<bhttp::empty_body>> parser_;
  std::optional<BeastResponse> response_;
  std::optional<bhttp::response_serializer<bhttp::string_body>> serializer_;
};

}  // namespace

class HttpServer::Impl {
 public:
  explicit Impl(Routes routes) : routes_(std::move(routes)), acceptor_(io_), pause_(io_) {}

  ~Impl() {
    io_.stop();
    if (thread_.joinable()) thread_.join();
  }

  absl::Status Listen(const HttpServerOptions& options) {
    beast::error_code error;
    const auto address = asio::ip::make_address(options.address, error);
    if (error) {
      return absl::InvalidArgumentError(absl::StrCat("'", options.address, "' is not an IP address"));
    }
    timeout_ = absl::ToChronoNanoseconds(options.request_timeout);
    const tcp::endpoint endpoint(address, options.port);
    const auto failed = [&](absl::string_view what) {
      return absl::UnavailableError(
          absl::StrCat("HTTP: can't ", what, " ", options.address, ":", options.port, ": ", error.message(),
                       "; choose another port with --http-port or stop what uses it"));
    };
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (error) return failed("bind to");
    acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (error) return failed("listen on");
    port_ = acceptor_.local_endpoint().port();
    Accept();
    thread_ = std::thread([this] { io_.run(); });
    return absl::OkStatus();
  }

  uint16_t port() const { return port_; }

 private:
  void Accept() {
    acceptor_.async_accept([this](beast::error_code error, tcp::socket socket) {
      if (!acceptor_.is_open()) return;
      // Above the limit the socket is closed at once: a scrape that fails is seen, one that hangs is not.
      if (!error && connections_.load() < kMostConnections) {
        std::make_shared<Connection>(std::move(socket), &routes_, timeout_, &connections_)->Read();
      }
      if (!error) return Accept();
      pause_.expires_after(kAcceptPause);
      pause_.async_wait([this](beast::error_code) { Accept(); });
    });
  }

  const Routes routes_;
  std::atomic<size_t> connections_{0};  // outlives the handlers that io_ still holds
  asio::io_context io_{1};
  tcp::acceptor acceptor_;
  asio::steady_timer pause_;
  std::chrono::nanoseconds timeout_{};
  uint16_t port_ = 0;
  std::thread thread_;
};

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() = default;

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const HttpServerOptions& options,
                                                              std::map<std::string, HttpHandler> routes) {
  auto impl = std::make_unique<Impl>(std::move(routes));
  const absl::Status listening = impl->Listen(options);
  if (!listening.ok()) return listening;
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

uint16_t HttpServer::port() const { return impl_->port(); }

}  // namespace lockstep::http
