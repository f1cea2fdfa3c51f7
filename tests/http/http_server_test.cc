// The HTTP server against well-behaved clients and others.
#include "server/http/http_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/support/http_client.h"

namespace lockstep::http {
namespace {

using testing::HttpAnswer;
using testing::HttpConnection;
using testing::HttpGet;

class HttpServerTest : public ::testing::Test {
 protected:
  HttpServerTest() {
    auto started =
        HttpServer::Start({.request_timeout = absl::Seconds(2)},
                          {{"/hello",
                            [this] {
                              calls_.fetch_add(1);
                              return HttpResponse{.body = "hello\n"};
                            }},
                           {"/big", [] { return HttpResponse{.body = std::string(4 << 20, 'b')}; }},
                           {"/sick", [] { return HttpResponse{.status = 503, .body = "sick\n"}; }}});
    EXPECT_TRUE(started.ok()) << started.status();
    server_ = *std::move(started);
  }

  // One request on a connection of its own.
  HttpAnswer Ask(const std::string& request, bool head = false) {
    HttpConnection connection(server_->port());
    connection.Send(request);
    return connection.ReadAnswer(head);
  }

  std::atomic<int> calls_{0};
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, AnswersGet) {
  const HttpAnswer answer = HttpGet(server_->port(), "/hello");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, "hello\n");
  EXPECT_TRUE(absl::StrContains(answer.head, "Content-Type: text/plain; charset=utf-8")) << answer.head;
  EXPECT_TRUE(absl::StrContains(answer.head, "no-store")) << answer.head;
  EXPECT_EQ(HttpGet(server_->port(), "/hello?verbose=1").status, 200);
  EXPECT_EQ(HttpGet(server_->port(), "/sick").status, 503);
  EXPECT_EQ(HttpGet(server_->port(), "/big").body.size(), size_t{4} << 20);
}

TEST_F(HttpServerTest, AnswersHeadWithTheLengthAndNoBody) {
  HttpConnection connection(server_->port());
  connection.Send("HEAD /hello HTTP/1.1\r\nHost: h\r\n\r\nGET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
  const HttpAnswer head = connection.ReadAnswer(true);
  EXPECT_EQ(head.status, 200);
  EXPECT_TRUE(absl::StrContains(head.head, "Content-Length: 6")) << head.head;
  // What follows is the next answer, not a body.
  EXPECT_EQ(connection.ReadAnswer().body, "hello\n");
}

TEST_F(HttpServerTest, RefusesWhatItDoesNotServe) {
  HttpAnswer answer = HttpGet(server_->port(), "/nope");
  EXPECT_EQ(answer.status, 404);
  EXPECT_EQ(answer.body, "no such page; there are:\n/big\n/hello\n/sick\n");
  for (const char* method : {"PUT", "DELETE", "OPTIONS", "PATCH", "BREW"}) {
    answer = Ask(absl::StrCat(method, " /hello HTTP/1.1\r\nHost: h\r\n\r\n"));
    EXPECT_TRUE(answer.status == 405 || answer.status == 400) << method << " " << answer.status;
  }
  answer = Ask("POST /hello HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
  EXPECT_EQ(answer.status, 405);
  EXPECT_TRUE(absl::StrContains(answer.head, "Allow: GET, HEAD")) << answer.head;
  EXPECT_EQ(Ask("POST /hello HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello").status, 413);
  EXPECT_EQ(
      Ask(absl::StrCat("GET /hello HTTP/1.1\r\nHost: h\r\nX: ", std::string(9000, 'x'), "\r\n\r\n")).status,
      431);
  EXPECT_EQ(calls_, 0);
}

TEST_F(HttpServerTest, AnswersGarbageWith400AndClosesIt) {
  for (const std::string& garbage :
       {std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11), std::string("nonsense\r\n\r\n"),
        std::string("GET\r\n\r\n"), std::string("GET /hello HTTP/9.9\r\n\r\n"), std::string(64, '\0'),
        std::string("GET /hello HTTP/1.1\r\nContent-Length: -5\r\n\r\n")}) {
    HttpConnection connection(server_->port());
    connection.Send(garbage);
    EXPECT_EQ(connection.ReadAnswer().status, 400) << garbage;
    EXPECT_TRUE(connection.ClosedByPeer()) << garbage;
  }
  EXPECT_EQ(HttpGet(server_->port(), "/hello").status, 200);
}

TEST_F(HttpServerTest, KeepsAConnectionForManyRequests) {
  HttpConnection connection(server_->port());
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(connection.Send("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n"));
    ASSERT_EQ(connection.ReadAnswer().body, "hello\n") << i;
  }
  ASSERT_TRUE(connection.Send("GET /hello HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"));
  EXPECT_EQ(connection.ReadAnswer().status, 200);
  EXPECT_TRUE(connection.ClosedByPeer());
  EXPECT_EQ(calls_, 1001);
}

TEST_F(HttpServerTest, AnswersPipelinedRequestsInOrder) {
  HttpConnection connection(server_->port());
  std::string requests;
  for (int i = 0; i < 100; ++i) {
    absl::StrAppend(&requests, "GET ", i % 2 == 0 ? "/hello" : "/sick", " HTTP/1.1\r\nHost: h\r\n\r\n");
  }
  ASSERT_TRUE(connection.Send(requests));
  for (int i = 0; i < 100; ++i) ASSERT_EQ(connection.ReadAnswer().status, i % 2 == 0 ? 200 : 503) << i;
}

TEST_F(HttpServerTest, ClosesAClientThatIsTooSlowAndGoesOnServingOthers) {
  HttpConnection slow(server_->port());
  ASSERT_TRUE(slow.Send("GET /hello HTTP/1.1\r\nHost"));
  HttpConnection silent(server_->port());
  EXPECT_EQ(HttpGet(server_->port(), "/hello").status, 200);
  EXPECT_TRUE(slow.ClosedByPeer());
  EXPECT_TRUE(silent.ClosedByPeer());
}

TEST_F(HttpServerTest, ClosesConnectionsBeyondTheLimitAndRecovers) {
  std::vector<std::unique_ptr<HttpConnection>> open;
  for (int i = 0; i < 256; ++i) {
    open.push_back(std::make_unique<HttpConnection>(server_->port()));
    ASSERT_TRUE(open.back()->Send("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n"));
    ASSERT_EQ(open.back()->ReadAnswer().status, 200) << i;
  }
  EXPECT_EQ(HttpGet(server_->port(), "/hello").status, 0);
  open.clear();
  EXPECT_TRUE(testing::Eventually([&] { return HttpGet(server_->port(), "/hello").status == 200; }));
}

TEST_F(HttpServerTest, ClientsThatVanishHarmNobody) {
  for (int i = 0; i < 50; ++i) {
    HttpConnection connection(server_->port());
    connection.Send(i % 2 == 0 ? "GET /big HTTP/1.1\r\nHost: h\r\n\r\n" : "GET /he");
  }
  EXPECT_EQ(HttpGet(server_->port(), "/hello").status, 200);
}

TEST_F(HttpServerTest, StopsWhileConnectionsAreOpen) {
  HttpConnection idle(server_->port());
  HttpConnection busy(server_->port());
  ASSERT_TRUE(busy.Send("GET /big HTTP/1.1\r\nHost: h\r\n\r\n"));
  server_.reset();
  while (busy.ReadAnswer().status != 0) {
  }
  EXPECT_TRUE(idle.ClosedByPeer());
}

TEST(HttpServerStartTest, SaysWhyItCannotListen) {
  auto first = HttpServer::Start({}, {});
  ASSERT_TRUE(first.ok()) << first.status();
  const auto second = HttpServer::Start({.port = (*first)->port()}, {});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(absl::StrContains(second.status().message(), absl::StrCat("127.0.0.1:", (*first)->port())))
      << second.status();
  const auto nowhere = HttpServer::Start({.address = "not-an-address"}, {});
  EXPECT_EQ(nowhere.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(nowhere.status().message(), "'not-an-address'"));
}

}  // namespace
}  // namespace lockstep::http
