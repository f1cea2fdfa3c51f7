// What one call costs as the number of things grows.
//
//   growth_load --rounds 20
//
// One JSON line a round, curve and size; `ns` is CPU time of the calling thread for each call:
//   route_by_handle   Client::Route on one of so many migrations, in turn; with a thousand to a client
//   remote_route      what the server does for a unary Route among so many migrations, without the network
//   publish           a drill (a commit, a publish) among so many migrations; the store is in memory
//   acknowledge       an acknowledgement while a state is pending, of one of so many enrolled instances: the
//                     publish rule is asked each time
//   heartbeat         a heartbeat of one of so many enrolled instances
//   decide_pinned     domain::Decide with so many pinned keys, half of the calls on one of them
// The gate's tick is in gate_tick_load.
#include <time.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/domain/bucketing.h"
#include "core/domain/decision.h"
#include "lockstep/client.h"
#include "lockstep/fake_control_plane.h"
#include "server/engine/engine.h"
#include "server/store/memory_store.h"
#include "server/store/proto_record_codec.h"
#include "tests/bench/many_migrations.h"

namespace lockstep::bench {
namespace {

constexpr uint64_t kSeed = 1;
constexpr uint32_t kReadWeight = 5000;

struct Options {
  int rounds = 20;
  double seconds = 0.02;
  int divide = 1;
  std::vector<std::string> curves;
};

// Something that can be called over and over; `i` counts up.
using Call = std::function<absl::Status(int64_t i)>;
struct Prepared {
  Call call;
  // Calls that belong together, before which `prepare` is run at no cost; 0: as many as fit in the time.
  int64_t calls = 0;
  std::function<absl::Status()> prepare;
};

absl::Duration ThreadCpuTime() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return absl::DurationFromTimespec(now);
}

std::string KeyOf(int64_t i) { return absl::StrFormat("customer-%015d", i); }

// A thousand keys in turn.
const std::string& SomeKey(int64_t i) {
  static const std::vector<std::string>& keys = *[] {
    auto* const made = new std::vector<std::string>();
    for (int64_t key = 0; key < 1024; ++key) made->push_back(KeyOf(key));
    return made;
  }();
  return keys[static_cast<size_t>(i) % keys.size()];
}

// A client takes a thousand migrations at most, so that ten thousand are those of ten clients.
constexpr int kMigrationsPerClient = 1000;

absl::StatusOr<std::shared_ptr<Client>> ClientOf(int first, int migrations) {
  auto plane = std::make_shared<FakeControlPlane>();
  ClientOptions options;
  options.transport = plane;
  options.service = "bench";
  options.seed = kSeed;
  for (int number = first; number < first + migrations; ++number) {
    plane->SetStage(ManyName(number), domain::Stage::kCanaryRead, kReadWeight);
    options.migrations.push_back(ManyName(number));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(std::shared_ptr<Client> client, Client::Create(std::move(options)));
  LOCKSTEP_RETURN_IF_ERROR(client->WaitUntilReady(absl::Now() + absl::Minutes(2)));
  return client;
}

absl::StatusOr<Prepared> RouteByHandle(int migrations) {
  std::vector<std::pair<std::shared_ptr<Client>, MigrationHandle>> handles;
  for (int first = 0; first < migrations; first += kMigrationsPerClient) {
    const int count = std::min(kMigrationsPerClient, migrations - first);
    LOCKSTEP_ASSIGN_OR_RETURN(const std::shared_ptr<Client> client, ClientOf(first, count));
    for (int number = first; number < first + count; ++number) {
      LOCKSTEP_ASSIGN_OR_RETURN(const MigrationHandle handle, client->Resolve(ManyName(number)));
      handles.emplace_back(client, handle);
    }
  }
  return Prepared{[handles](int64_t i) {
    const auto& [client, migration] = handles[static_cast<size_t>(i) % handles.size()];
    return client->Route(migration, SomeKey(i)).status();
  }};
}

// An engine with migrations of one check at CANARY_READ.
struct Server {
  std::unique_ptr<store::Store> store = store::NewMemoryStore();
  store::ProtoRecordCodec codec;
  FakeClock clock{absl::FromUnixSeconds(1'700'000'000)};
  std::unique_ptr<engine::Engine> engine;
  std::vector<std::string> names;
  std::vector<engine::ConnectionId> connections;
  int created = 0;
};

absl::StatusOr<std::shared_ptr<Server>> StartServer(int migrations) {
  auto server = std::make_shared<Server>();
  const domain::PlanStep step = {.stage = domain::Stage::kCanaryRead, .weight = kReadWeight};
  LOCKSTEP_RETURN_IF_ERROR(WriteManyMigrations({.count = migrations, .step = step}, server->codec,
                                               server->clock, server->store.get()));
  server->engine = std::make_unique<engine::Engine>(server->store.get(), &server->codec, &server->clock,
                                                    kSeed, engine::EngineOptions());
  LOCKSTEP_RETURN_IF_ERROR(server->engine->Start());
  for (int number = 0; number < migrations; ++number) server->names.push_back(ManyName(number));
  return server;
}

absl::StatusOr<Prepared> RemoteRoute(int migrations) {
  LOCKSTEP_ASSIGN_OR_RETURN(const std::shared_ptr<Server> server, StartServer(migrations));
  return Prepared{[server](int64_t i) -> absl::Status {
    LOCKSTEP_ASSIGN_OR_RETURN(const engine::RemoteRouting routing,
                              server->engine->registry().RouteRemotely(
                                  server->names[static_cast<size_t>(i) % server->names.size()]));
    const domain::Decision decision = domain::Decide(routing.routing->state, SomeKey(i), nullptr);
    return decision.epoch > 0 ? absl::OkStatus() : absl::InternalError("no epoch");
  }};
}

engine::MutationContext ByBench() {
  engine::MutationContext context;
  context.principal = {"user:bench"};
  context.reason = "benchmark";
  return context;
}

absl::StatusOr<Prepared> Publish(int migrations) {
  LOCKSTEP_ASSIGN_OR_RETURN(const std::shared_ptr<Server> server, StartServer(migrations));
  return Prepared{[server](int64_t i) {
    const std::string& name = server->names[static_cast<size_t>(i) % server->names.size()];
    return server->engine->registry().Drill(name, ByBench()).status();
  }};
}

std::string InstanceOf(int64_t number) { return absl::StrCat("instance-", number); }

// The instances are enrolled for the server's newest migration, which is at DUAL_WRITE and on its way to
// SHADOW_READ once they have all acknowledged DUAL_WRITE.
absl::Status EnrolForANewMigration(int instances, Server* server) {
  engine::Registry& registry = server->engine->registry();
  engine::MigrationDefinition definition;
  definition.name = absl::StrCat("namespaces/bench/migrations/new-", ++server->created);
  definition.plan.steps = {{.stage = domain::Stage::kDualWrite}, {.stage = domain::Stage::kShadowRead}};
  server->names = {definition.name};
  server->connections.clear();
  LOCKSTEP_RETURN_IF_ERROR(registry.Create(definition, ByBench()).status());
  for (int number = 0; number < instances; ++number) {
    engine::EnrolRequest request;
    request.instance_id = InstanceOf(number);
    request.service = "bench";
    request.version = "1";
    request.migrations = server->names;
    LOCKSTEP_ASSIGN_OR_RETURN(const engine::ConnectionId connection, registry.Enrol(std::move(request)));
    server->connections.push_back(connection);
  }
  LOCKSTEP_RETURN_IF_ERROR(
      registry.Execute(definition.name, {.kind = domain::CommandKind::kStart}, ByBench()).status());
  const domain::Command advance = {.kind = domain::CommandKind::kAdvance, .override_gate = true};
  LOCKSTEP_ASSIGN_OR_RETURN(const engine::MigrationView view,
                            registry.Execute(definition.name, advance, ByBench()));
  return view.migration->pending ? absl::OkStatus() : absl::InternalError("nothing waits for the instances");
}

absl::StatusOr<Prepared> Acknowledge(int instances) {
  LOCKSTEP_ASSIGN_OR_RETURN(const std::shared_ptr<Server> server, StartServer(1));
  Prepared prepared;
  prepared.calls = instances;
  // One more, which never acknowledges: the publish is no part of the price.
  prepared.prepare = [server, instances] { return EnrolForANewMigration(instances + 1, server.get()); };
  prepared.call = [server](int64_t i) {
    return server->engine->Acknowledge(InstanceOf(i), server->connections[static_cast<size_t>(i)],
                                       {{server->names[0], 2}}, {});
  };
  return prepared;
}

absl::StatusOr<Prepared> Heartbeat(int instances) {
  LOCKSTEP_ASSIGN_OR_RETURN(const std::shared_ptr<Server> server, StartServer(1));
  LOCKSTEP_RETURN_IF_ERROR(EnrolForANewMigration(instances, server.get()));
  return Prepared{[server](int64_t i) {
    const auto number = static_cast<size_t>(i) % server->connections.size();
    return server->engine->instances().Heartbeat(InstanceOf(static_cast<int64_t>(number)),
                                                 server->connections[number], {.operations = 1});
  }};
}

absl::StatusOr<Prepared> DecidePinned(int pinned) {
  auto pins = std::make_shared<domain::Pins>();
  for (int64_t key = 0; key < pinned; ++key) pins->keys.emplace(KeyOf(key), domain::Side::kNew);
  domain::RoutingState state = domain::StateOfStage(domain::Stage::kCanaryRead, kReadWeight);
  state.epoch = 1;
  state.salt_seed = domain::SaltSeed("bench");
  state.pins = std::move(pins);
  // In turn one that is pinned, spread over all of them, and one that is not.
  std::vector<std::string> keys;
  for (int64_t i = 0; i < 512; ++i) {
    keys.push_back(KeyOf(i * 7919 % pinned));
    keys.push_back(KeyOf(1'000'000 + i));
  }
  return Prepared{[state, keys](int64_t i) {
    const domain::Decision decision =
        domain::Decide(state, keys[static_cast<size_t>(i) % keys.size()], nullptr);
    return decision.epoch == 1 ? absl::OkStatus() : absl::InternalError("another epoch");
  }};
}

struct Curve {
  std::string name;
  int largest;
  absl::StatusOr<Prepared> (*prepare)(int size);
};

const Curve kCurves[] = {{"route_by_handle", 10'000, RouteByHandle},
                         {"remote_route", 10'000, RemoteRoute},
                         {"publish", 10'000, Publish},
                         {"acknowledge", 10'000, Acknowledge},
                         {"heartbeat", 10'000, Heartbeat},
                         {"decide_pinned", 100'000, DecidePinned}};

// CPU nanoseconds a call.
absl::StatusOr<double> Measure(const Prepared& prepared, absl::Duration at_least) {
  absl::Duration spent = absl::ZeroDuration();
  int64_t calls = 0;
  do {
    if (prepared.prepare) LOCKSTEP_RETURN_IF_ERROR(prepared.prepare());
    const int64_t from = prepared.prepare ? 0 : calls;
    const int64_t count = prepared.calls > 0 ? prepared.calls : std::max<int64_t>(1, calls);
    const absl::Duration began = ThreadCpuTime();
    for (int64_t i = from; i < from + count; ++i) LOCKSTEP_RETURN_IF_ERROR(prepared.call(i));
    spent += ThreadCpuTime() - began;
    calls += count;
  } while (spent < at_least);
  return absl::ToDoubleNanoseconds(spent) / static_cast<double>(calls);
}

absl::Status MeasureAll(const Options& options) {
  for (const Curve& curve : kCurves) {
    const bool wanted =
        options.curves.empty() || std::count(options.curves.begin(), options.curves.end(), curve.name) > 0;
    if (!wanted) continue;
    // Of one curve at a time, so that memory holds no more than one; the sizes of a curve interleaved.
    std::vector<std::pair<int, Prepared>> sizes;
    for (int size = 1; size <= curve.largest; size *= 10) {
      LOCKSTEP_ASSIGN_OR_RETURN(Prepared prepared, curve.prepare(std::max(1, size / options.divide)));
      sizes.emplace_back(size, std::move(prepared));
    }
    for (int round = -1; round < options.rounds; ++round) {
      for (const auto& [size, prepared] : sizes) {
        LOCKSTEP_ASSIGN_OR_RETURN(const double ns, Measure(prepared, absl::Seconds(options.seconds)));
        if (round < 0) continue;
        absl::PrintF(R"({"round":%d,"subject":"%s_%d","ns":%.2f})"
                     "\n",
                     round, curve.name, size, ns);
      }
      fflush(stdout);
    }
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace lockstep::bench

int main(int argc, char** argv) {
  lockstep::SetLogLevel(lockstep::LogLevel::kError);
  lockstep::bench::Options options;
  CLI::App app("What a call costs as the number of things grows");
  app.add_option("--rounds", options.rounds)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--seconds", options.seconds, "of CPU time, for each point and round")
      ->capture_default_str();
  app.add_option("--divide", options.divide, "sizes are so many times smaller than they say, to try it out")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--curves", options.curves, "only these")->delimiter(',');
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = lockstep::bench::MeasureAll(options);
  if (status.ok()) return 0;
  std::fprintf(stderr, "growth_load: %s\n", status.ToString().c_str());
  return 1;
}
