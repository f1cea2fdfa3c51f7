#include "client/cli/connection.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/cli/text.h"
#include "core/wire/status.h"

namespace lockstep::cli {
namespace {

constexpr absl::Duration kReconnectFor = absl::Seconds(30);
constexpr absl::Duration kFirstBackoff = absl::Milliseconds(100);
constexpr absl::Duration kLongestBackoff = absl::Seconds(2);
// A page of 100 migrations with plans and pins exceeds gRPC's default of 4 MiB.
constexpr int kMaxReplyBytes = 256 << 20;

std::shared_ptr<grpc::Channel> OpenChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  // The control plane is an internal service: a proxy meant for the outside must not come between.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetMaxReceiveMessageSize(kMaxReplyBytes);
  // Notices, within 15 s, that the server's host is gone while a watch waits for news.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5'000);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

std::string PrincipalOf(const Streams& streams) {
  char host[256] = {};
  if (gethostname(host, sizeof(host) - 1) != 0) host[0] = '\0';
  auto user = Environment(streams, "USER");
  if (!user) user = Environment(streams, "LOGNAME");
  std::string principal =
      absl::StrCat("user:", user.value_or("unknown"), "@", host[0] == '\0' ? "unknown" : host);
  // Metadata values are printable ASCII.
  std::replace_if(
      principal.begin(), principal.end(), [](char c) { return !absl::ascii_isgraph(c); }, '?');
  return principal;
}

Connection::Connection(const std::string& address, absl::Duration timeout, std::string principal)
    : address_(address),
      timeout_(timeout),
      principal_(std::move(principal)),
      channel_(OpenChannel(address)),
      migrations_(channel_),
      routing_(channel_),
      gate_(channel_),
      health_(channel_) {}

void Connection::Prepare(grpc::ClientContext* context, absl::Duration timeout) const {
  if (timeout < absl::InfiniteDuration()) context->set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  context->AddMetadata("lockstep-principal", principal_);
}

absl::Status Connection::Failure(const grpc::Status& status) const {
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
    return absl::UnavailableError(
        absl::StrCat("no answer from ", address_, ": ", Printable(status.error_message())));
  }
  return wire::StatusFromWire(static_cast<int>(status.error_code()), status.error_message(),
                              status.error_details());
}

absl::Status Connection::WatchOnce(const std::string& name, absl::Time deadline,
                                   absl::FunctionRef<bool(const v1::Migration&)> on_update, bool* seen,
                                   bool* stop) {
  grpc::ClientContext context;
  Prepare(&context, deadline - absl::Now());
  v1::WatchMigrationRequest request;
  request.set_name(name);
  const auto reader = migrations_.WatchMigration(&context, request);
  v1::Migration migration;
  while (reader->Read(&migration)) {
    *seen = true;
    if (!on_update(migration)) {
      *stop = true;
      context.TryCancel();
      break;
    }
  }
  const grpc::Status status = reader->Finish();
  if (*stop) return absl::OkStatus();
  // A server that drains closes the stream without an error.
  return status.ok() ? absl::UnavailableError("the server closed the stream") : Failure(status);
}

absl::Status Connection::Watch(const std::string& name, absl::Time deadline,
                               absl::FunctionRef<bool(const v1::Migration&)> on_update,
                               absl::FunctionRef<void(const absl::Status&)> on_reconnect) {
  bool ever_seen = false;
  absl::Time lost = absl::InfiniteFuture();
  absl::Duration backoff = kFirstBackoff;
  while (true) {
    bool seen = false;
    bool stop = false;
    absl::Status status = WatchOnce(name, deadline, on_update, &seen, &stop);
    if (stop) return absl::OkStatus();
    if (!absl::IsUnavailable(status)) return status;
    ever_seen |= seen;
    const absl::Time now = absl::Now();
    if (seen || lost == absl::InfiniteFuture()) {
      lost = now;
      backoff = kFirstBackoff;
    }
    if (!ever_seen || now - lost > kReconnectFor) return status;
    if (now + backoff >= deadline) return absl::DeadlineExceededError(status.message());
    on_reconnect(status);
    absl::SleepFor(backoff);
    backoff = std::min(2 * backoff, kLongestBackoff);
  }
}

}  // namespace lockstep::cli
