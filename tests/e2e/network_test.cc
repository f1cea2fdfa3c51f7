// Bad networks between services and the control plane: connections that die without a word, delay, cuts, and
// a link that is taken down between two network namespaces.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "lockstep/grpc_transport.h"
#include "tests/e2e/fleet.h"
#include "tests/e2e/lockstepd_process.h"
#include "tests/e2e/memory_sides.h"
#include "tests/store/temp_directory.h"
#include "tests/support/api_client.h"
#include "tests/support/status_matchers.h"
#include "tests/support/tcp_proxy.h"

namespace lockstep {
namespace {

using testing::AdvanceTo;
using testing::ApiClient;
using testing::Eventually;
using testing::IsOk;
using testing::NameOf;
using testing::TcpProxy;

constexpr char kMigration[] = "network";
constexpr char kQuiet[] = "quiet";  // nobody changes it
constexpr absl::Duration kLease = absl::Seconds(3);

// What the client promises (toolchain: keepalive after 10 s of silence, 5 s for the answer), and what a
// loaded machine may add.
constexpr absl::Duration kKeepalive = absl::Seconds(15);
constexpr absl::Duration kSlack = absl::Seconds(10);

ClientOptions InstanceOptions(const std::string& instance) {
  ClientOptions options;
  options.service = "network";
  options.migrations = {NameOf(kMigration)};
  options.instance_id = instance;
  options.lease_ttl = kLease;
  options.heartbeat_interval = kLease / 6;
  options.backoff_initial = absl::Milliseconds(100);
  options.backoff_max = absl::Seconds(1);
  return options;
}

class NetworkTest : public ::testing::Test {
 protected:
  // On any free port of `host`.
  void Start(const std::string& host = "127.0.0.1", std::vector<std::string> flags = {}) {
    flags.push_back("--gate-interval=50ms");
    server_ = std::make_unique<testing::Lockstepd>(testing::LockstepdOptions{
        .directory = directory_.path(), .listen = host + ":0", .flags = std::move(flags)});
    ASSERT_TRUE(server_->Start()) << server_->Output();
    address_ = absl::StrCat(host, ":", server_->grpc_port());
    api_ = std::make_unique<ApiClient>(address_);
    ASSERT_TRUE(IsOk(api_->Create(kMigration, testing::FleetMigration())));
  }
  // Ready when it returns; null and a failure if it can't be.
  std::unique_ptr<Client> Connect(const std::string& address, ClientOptions options) {
    auto client = ConnectGrpc({.address = address}, std::move(options));
    EXPECT_TRUE(IsOk(client));
    if (!client.ok()) return nullptr;
    EXPECT_TRUE(IsOk((*client)->WaitUntilReady(absl::Now() + testing::kPatience)));
    return *std::move(client);
  }
  v1::Migration Now() { return api_->Get(kMigration).value_or(v1::Migration()); }
  v1::Instance Find(absl::string_view instance) {
    return testing::FindInstance(api_.get(), kMigration, std::string(instance));
  }
  uint64_t Drill() {
    v1::DrillRollbackRequest drill;
    drill.set_name(NameOf(kMigration));
    const auto drilled = api_->Call(&v1::MigrationService::Stub::DrillRollback, drill);
    EXPECT_TRUE(IsOk(drilled));
    return drilled.ok() ? drilled->migration().routing().epoch() : 0;
  }
  // Until the control plane knows that the instance acts on nothing older.
  bool Follows(absl::string_view instance, uint64_t epoch) {
    return Eventually([&] { return Find(instance).acknowledged_epoch() >= epoch; });
  }

  store::TempDirectory directory_;
  std::unique_ptr<testing::Lockstepd> server_;
  std::string address_;
  std::unique_ptr<ApiClient> api_;
};

// A channel that asks for signs of life somewhat less often than the server allows.
std::shared_ptr<grpc::Channel> BusyPinger(const std::string& address, absl::Duration interval) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, static_cast<int>(absl::ToInt64Milliseconds(interval)));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 30'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

TEST_F(NetworkTest, AHalfOpenConnectionIsNoticedAndReplaced) {
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_TRUE(IsOk(api_->Create(kQuiet, testing::FleetMigration())));
  ASSERT_TRUE(IsOk(api_->Start(kMigration)));
  TcpProxy proxy(server_->grpc_port());
  const auto busy = Connect(proxy.address(), InstanceOptions("busy-1"));
  // Says nothing of itself for longer than the test takes: all it has is keepalive. On a proxy of its own,
  // because gRPC lets channels to one address share a connection.
  TcpProxy silent_proxy(server_->grpc_port());
  ClientOptions silent_options = InstanceOptions("silent-1");
  silent_options.migrations = {NameOf(kQuiet)};
  silent_options.heartbeat_interval = absl::Minutes(2);
  silent_options.lease_ttl = absl::Minutes(5);
  const auto silent = Connect(silent_proxy.address(), std::move(silent_options));
  ASSERT_TRUE(busy != nullptr && silent != nullptr);

  // Pings of an idle connection are no abuse to the server, which lets the fourth go by. By then, the silent
  // client has sent as many as gRPC allows without data unless it is told otherwise.
  constexpr absl::Duration kPingInterval = absl::Milliseconds(5500);
  ApiClient pinger(BusyPinger(address_, kPingInterval));
  testing::WatchClient idle(&pinger);
  ASSERT_TRUE(idle.Enrol("idle-1", {kQuiet}));
  ASSERT_EQ(idle.ReadSnapshot().migrations_size(), 1);
  const absl::Time idle_since = absl::Now();
  Eventually([&] { return absl::Now() > idle_since + 4.3 * kPingInterval; });
  v1::WatchRequest heartbeat;
  heartbeat.mutable_heartbeat();
  ASSERT_TRUE(idle.Send(heartbeat));
  v1::WatchResponse answer;
  EXPECT_TRUE(idle.Read(&answer)) << "the server has ended an idle stream: " << idle.Finish();
  EXPECT_TRUE(answer.has_heartbeat()) << answer.ShortDebugString();
  EXPECT_EQ(busy->Stats().reconnects + silent->Stats().reconnects, 0u);
  EXPECT_EQ(proxy.open() + silent_proxy.open(), 2);

  const absl::Time dead_since = absl::Now();
  proxy.Blackhole();
  silent_proxy.Blackhole();
  const auto noticed = [&](const Client& client) {
    EXPECT_TRUE(Eventually([&] { return !client.Stats().connected; }, kKeepalive + kSlack))
        << client.instance_id();
    return absl::Now() - dead_since;
  };
  EXPECT_TRUE(Eventually([&] { return busy->Stats().stale; }));
  const absl::Duration lease_over = absl::Now() - dead_since;
  EXPECT_TRUE(Eventually([&] { return Find("busy-1").lease() == v1::LEASE_STATE_EXPIRED; }));
  EXPECT_TRUE(IsOk(busy->Route(NameOf(kMigration), "key"))) << "it goes on by its last epoch";
  const absl::Duration silent_noticed = noticed(*silent);
  const absl::Duration busy_noticed = noticed(*busy);
  EXPECT_TRUE(Eventually([&] { return proxy.open() > 1 && silent_proxy.open() > 1; }))
      << "nobody tries again";
  EXPECT_FALSE(busy->Stats().connected);

  proxy.Heal();
  silent_proxy.Heal();
  for (const Client* client : {busy.get(), silent.get()}) {
    EXPECT_TRUE(Eventually([&] { return client->Stats().connected && !client->Stats().stale; }))
        << client->instance_id();
  }
  EXPECT_GE(busy->Stats().reconnects, 1u);
  EXPECT_GE(silent->Stats().reconnects, 1u);
  EXPECT_TRUE(Follows("busy-1", Drill()));
  EXPECT_EQ(Find("busy-1").lease(), v1::LEASE_STATE_LIVE);
  std::printf(
      "half-open: the lease was over after %.1f s; keepalive noticed after %.1f s (with heartbeats) "
      "and %.1f s (without)\n",
      absl::ToDoubleSeconds(lease_over), absl::ToDoubleSeconds(busy_noticed),
      absl::ToDoubleSeconds(silent_noticed));
}

// The other direction: the host of an instance is gone, and nobody says so. With times of a second each
// instead of 20 s and 10 s, so that it is quick.
TEST_F(NetworkTest, TheServerNoticesAClientThatIsGone) {
  ASSERT_NO_FATAL_FAILURE(Start("127.0.0.1", {"--keepalive-time=1s", "--keepalive-timeout=1s"}));
  TcpProxy proxy(server_->grpc_port());
  ClientOptions options = InstanceOptions("gone-1");
  options.heartbeat_interval = absl::Minutes(2);
  options.lease_ttl = absl::Minutes(5);
  const auto instance = Connect(proxy.address(), std::move(options));
  ASSERT_NE(instance, nullptr);
  // Silence is nothing to be cut off for, as long as pings are answered.
  const absl::Time silent_since = absl::Now();
  Eventually([&] { return absl::Now() > silent_since + absl::Seconds(4); });
  EXPECT_TRUE(Find("gone-1").connected());

  const absl::Time dead_since = absl::Now();
  proxy.Blackhole();
  EXPECT_TRUE(Eventually([&] { return !Find("gone-1").connected(); }, absl::Seconds(2) + kSlack));
  std::printf("half-open: the server noticed after %.1f s\n",
              absl::ToDoubleSeconds(absl::Now() - dead_since));
}

TEST_F(NetworkTest, ARollbackReachesDistantInstances) {
  ASSERT_NO_FATAL_FAILURE(Start());
  constexpr absl::Duration kDelay = absl::Milliseconds(300);  // each way
  constexpr int kDistant = 3;
  TcpProxy proxy(server_->grpc_port());
  proxy.SetDelay(kDelay, kDelay);
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < kDistant; ++i) {
    clients.push_back(Connect(proxy.address(), InstanceOptions(absl::StrCat("distant-", i))));
  }
  clients.push_back(Connect(address_, InstanceOptions("near")));
  for (const auto& client : clients) ASSERT_NE(client, nullptr);
  ASSERT_TRUE(AdvanceTo(api_.get(), kMigration, v1::STAGE_CANARY_READ));

  const auto expect_accepted = [&](uint64_t epoch, const char* what) {
    for (const auto& client : clients) {
      const std::string& id = client->instance_id();
      ASSERT_TRUE(Eventually([&] { return Find(id).accepted_epoch() == epoch; })) << what << ", " << id;
      EXPECT_EQ(client->EpochInForce(*client->Resolve(NameOf(kMigration))), epoch) << what << ", " << id;
      const v1::Instance instance = Find(id);
      ASSERT_TRUE(instance.has_accept_delay()) << what << ", " << id;
      const absl::Duration delay = absl::Seconds(instance.accept_delay().seconds()) +
                                   absl::Nanoseconds(instance.accept_delay().nanos());
      // There and back, since the server counts until it hears of it.
      if (id != "near") {
        EXPECT_GE(delay, 2 * kDelay) << what << ", " << id;
      }
      std::printf("%s: accepted by %s after %.0f ms\n", what, id.c_str(), absl::ToDoubleMilliseconds(delay));
    }
  };
  v1::RollbackMigrationRequest rollback;
  rollback.set_name(NameOf(kMigration));
  const auto rolled_back = api_->Call(&v1::MigrationService::Stub::RollbackMigration, rollback);
  ASSERT_TRUE(IsOk(rolled_back));
  EXPECT_FALSE(rolled_back->has_pending_routing()) << rolled_back->ShortDebugString();
  EXPECT_EQ(rolled_back->routing().stage(), v1::STAGE_SHADOW_READ);
  ASSERT_NO_FATAL_FAILURE(expect_accepted(rolled_back->routing().epoch(), "rollback"));
  ASSERT_NO_FATAL_FAILURE(expect_accepted(Drill(), "drill"));
}

TEST_F(NetworkTest, ACutConnectionIsTriedAgainWithBackoff) {
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_TRUE(IsOk(api_->Start(kMigration)));
  TcpProxy proxy(server_->grpc_port());
  const auto client = Connect(proxy.address(), InstanceOptions("cut-1"));
  ASSERT_NE(client, nullptr);

  const absl::Time cut_at = absl::Now();
  proxy.Cut();
  EXPECT_TRUE(Eventually([&] { return !client->Stats().connected; }));
  // The channel's waits begin at 100 ms, within 20 %, and grow by 1.6: five attempts take 740 ms at least.
  constexpr int kAttempts = 5;
  ASSERT_TRUE(Eventually([&] { return proxy.refused() >= kAttempts; }));
  const int refused = proxy.refused();
  const absl::Duration took = absl::Now() - cut_at;
  if (refused == kAttempts) {
    EXPECT_GE(took, absl::Milliseconds(500)) << "attempts without backoff";
  }
  EXPECT_TRUE(IsOk(client->Route(NameOf(kMigration), "key")));
  const uint64_t epoch = Drill();  // while it can't hear it

  proxy.Heal();
  EXPECT_TRUE(Follows("cut-1", epoch));
  EXPECT_TRUE(client->Stats().connected);
  EXPECT_GE(client->Stats().reconnects, 1u);
  EXPECT_EQ(proxy.open(), 1);
  std::printf("cut: %d attempts in %.2f s\n", refused, absl::ToDoubleSeconds(took));
}

// A network namespace with one link to this one, until the object goes.
class Namespace {
 public:
  explicit Namespace(const std::string& log) : log_(log) {
    for (const char* path : {"/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip", "/bin/ip"}) {
      if (ip_.empty() && std::filesystem::exists(path)) ip_ = path;
    }
    if (::geteuid() != 0) {
      why_not_ = "only root may create network namespaces";
    } else if (ip_.empty()) {
      why_not_ = "there is no `ip` (package iproute2)";
    } else if (!Ip({"netns", "add", name_})) {
      why_not_ = absl::StrCat("`ip netns add` fails: ", testing::ReadFileOrEmpty(log_));
    } else if (!(Ip({"link", "add", host_link_, "type", "veth", "peer", "name", "inside", "netns", name_}) &&
                 Ip({"address", "add", absl::StrCat(host(), "/30"), "dev", host_link_}) &&
                 Ip({"link", "set", host_link_, "up"}) &&
                 Ip({"-n", name_, "address", "add", absl::StrCat(Address(2), "/30"), "dev", "inside"}) &&
                 SetLink(true))) {
      why_not_ = absl::StrCat("no pair of links can be made: ", testing::ReadFileOrEmpty(log_));
    }
  }
  ~Namespace() {
    if (ip_.empty() || ::geteuid() != 0) return;
    // At once, and not only when the last process inside is gone.
    Ip({"link", "delete", host_link_});
    Ip({"netns", "delete", name_});
  }

  // Why there is none; empty = there is.
  const std::string& why_not() const { return why_not_; }
  // This side of the link.
  std::string host() const { return Address(1); }
  // Runs a command inside, as the same process.
  std::vector<std::string> wrapper() const { return {ip_, "netns", "exec", name_}; }
  bool SetLink(bool up) { return Ip({"-n", name_, "link", "set", "inside", up ? "up" : "down"}); }

 private:
  bool Ip(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), ip_);
    return testing::Run(std::move(arguments), {.output = log_}).exit_code == 0;
  }
  // Of 198.18.0.0/15, which is set aside for tests of networks: one net of four for each process.
  std::string Address(int host) const {
    const int net = ::getpid() % (1 << 15);
    return absl::StrCat("198.", 18 + (net >> 14), ".", (net >> 6) & 0xff, ".", (net & 0x3f) * 4 + host);
  }

  const std::string log_;
  const std::string name_ = absl::StrCat("lockstep-", ::getpid());
  const std::string host_link_ = absl::StrCat("ls", ::getpid());  // at most 15 characters
  std::string ip_;
  std::string why_not_;
};

TEST_F(NetworkTest, ALinkGoesDownBetweenTwoNetworkNamespaces) {
  Namespace inside(directory_.path() + "/ip.log");
  if (!inside.why_not().empty()) {
    // tests/run.sh sets it where namespaces can be made: nothing is skipped unnoticed there.
    ASSERT_EQ(std::getenv("LOCKSTEP_REQUIRE_NAMESPACES"), nullptr) << inside.why_not();
    GTEST_SKIP() << inside.why_not();
  }
  ASSERT_NO_FATAL_FAILURE(Start(inside.host()));
  ASSERT_TRUE(IsOk(api_->Start(kMigration)));
  testing::FleetService service({
      .address = address_,
      .migration = NameOf(kMigration),
      .instance = "inside-1",
      .directory = directory_.path() + "/inside-1",
      .lease = kLease,
      .wrapper = inside.wrapper(),
  });
  ASSERT_TRUE(service.Serves()) << service.Output();
  ASSERT_TRUE(AdvanceTo(api_.get(), kMigration, v1::STAGE_CANARY_READ));
  ASSERT_TRUE(Follows("inside-1", Now().routing().epoch()));

  ASSERT_TRUE(inside.SetLink(false));
  ASSERT_TRUE(Eventually([&] { return Find("inside-1").lease() == v1::LEASE_STATE_EXPIRED; }));
  ASSERT_TRUE(IsOk(api_->Advance(kMigration)));
  EXPECT_TRUE(Eventually([&] {
    const v1::Migration now = Now();
    return now.waiting_for_size() == 1 && now.waiting_for(0).instance_id() == "inside-1";
  })) << Now().ShortDebugString();
  EXPECT_EQ(Now().routing().stage(), v1::STAGE_CANARY_READ);
  const absl::Time down_since = absl::Now();
  EXPECT_TRUE(
      Eventually([&] { return absl::StrContains(service.Output(), "stream closed"); }, kKeepalive + kSlack));
  const absl::Duration given_up = absl::Now() - down_since;
  ASSERT_TRUE(service.DoesMore(20)) << "it goes on without the control plane";
  EXPECT_EQ(service.Operations().back().side, "old");

  ASSERT_TRUE(inside.SetLink(true));
  ASSERT_TRUE(AdvanceTo(api_.get(), kMigration, v1::STAGE_CUTOVER)) << Now().ShortDebugString();
  EXPECT_TRUE(Eventually([&] { return service.Operations().back().side == "new"; }));
  EXPECT_EQ(service.End(), 0) << service.Output();
  const auto failure = service.FirstFailure();
  EXPECT_FALSE(failure) << failure.value_or(testing::FleetOperation()).message;
  EXPECT_EQ(testing::MemorySide(service.directory() + "/old-side").Rows(),
            testing::MemorySide(service.directory() + "/new-side").Rows());
  std::printf("link down: the connection was given up %.1f s after the lease was over; %d operations\n",
              absl::ToDoubleSeconds(given_up), static_cast<int>(service.Operations().size()));
}

}  // namespace
}  // namespace lockstep
