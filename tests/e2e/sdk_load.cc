// One service process of the exactly-once test: compares until it has counted its share, reports all of it,
// and says what it counted.
//
//   sdk_load ADDRESS MIGRATION INSTANCE COMPARISONS
//
// The last line of its output is "total OUTCOME COUNT ..." over every outcome, then the reads. Exit code 1
// when something could not be reported.
#include <cstdio>
#include <string>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "lockstep/grpc_transport.h"
#include "tests/e2e/memory_sides.h"

namespace lockstep {
namespace {

// Records of each block, spread over time, so that kills of the server fall in between.
constexpr uint64_t kBlock = 2000;
constexpr absl::Duration kBlockPause = absl::Milliseconds(40);
constexpr int kMigratorReadsPerBlock = 10;

int Fail(const absl::Status& status) {
  std::printf("%s\n", status.ToString().c_str());
  return 1;
}

absl::Status Compare(Client* client, const std::string& migration, uint64_t goal) {
  auto handle = client->Resolve(migration);
  if (!handle.ok()) return handle.status();
  testing::MemorySide old_side, new_side;
  const auto same = [](const std::string& text) { return text; };
  auto migrator = testing::MakeTextMigrator(client, migration, &old_side, &new_side, same);
  if (!migrator.ok()) return migrator.status();
  const std::vector<FieldDifference> differences = {
      {.path = "name", .kind = domain::MismatchKind::kValue, .declared = true}};
  uint64_t recorded = 0;
  while (client->telemetry().Totals(handle->index()).compared() < goal) {
    for (int i = 0; i < kMigratorReadsPerBlock; ++i) {
      if (auto read = (*migrator)->Read(absl::StrCat("key-", recorded + static_cast<uint64_t>(i)));
          !read.ok()) {
        return read.status();
      }
    }
    auto route = client->Route(*handle, "key");
    if (!route.ok()) return route.status();
    for (uint64_t i = 0; i < kBlock; ++i, ++recorded) {
      ComparisonRecord record;
      record.outcome = domain::kComparisonOutcomes[recorded % domain::kComparisonOutcomeCount].outcome;
      record.only_old_failed = record.outcome == domain::ComparisonOutcome::kErrorInOld;
      record.only_new_failed = record.outcome == domain::ComparisonOutcome::kErrorInNew;
      if (record.outcome == domain::ComparisonOutcome::kMismatch) record.differences = &differences;
      record.routing_key = "key";
      client->telemetry().RecordComparison(route->attribution(), route->state().salt_seed, record);
    }
    absl::SleepFor(kBlockPause);
  }
  return absl::OkStatus();
}

int Main(const std::string& address, const std::string& migration, const std::string& instance,
         uint64_t goal) {
  ClientOptions options;
  options.service = "sdk_load";
  options.migrations = {migration};
  options.instance_id = instance;
  options.backoff_initial = absl::Milliseconds(20);
  options.backoff_max = absl::Milliseconds(200);
  options.telemetry_interval = absl::Milliseconds(100);
  auto client = ConnectGrpc({.address = address, .report_deadline = absl::Seconds(2)}, options);
  if (!client.ok()) return Fail(client.status());
  if (absl::Status ready = (*client)->WaitUntilReady(absl::Now() + absl::Seconds(30)); !ready.ok())
    return Fail(ready);
  const absl::Status compared = Compare(client->get(), migration, goal);
  const absl::Status down = (*client)->Shutdown(absl::Now() + absl::Seconds(30));
  if (!compared.ok()) return Fail(compared);
  if (!down.ok()) return Fail(down);
  const domain::WindowStats totals = (*client)->telemetry().Totals((*client)->Resolve(migration)->index());
  std::string line = "total";
  for (const domain::ComparisonOutcomeInfo& info : domain::kComparisonOutcomes) {
    absl::StrAppend(&line, " ", info.name, " ", totals.comparison(info.outcome));
  }
  absl::StrAppend(&line, " reads ", totals.arm(domain::Arm::kOld).requests, " dropped ",
                  totals.dropped.telemetry_dropped, " reconnects ", (*client)->Stats().reconnects);
  std::printf("%s\n", line.c_str());
  return 0;
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) {
  uint64_t goal = 0;
  if (argc != 5 || !absl::SimpleAtoi(argv[4], &goal)) {
    std::fprintf(stderr, "usage: sdk_load ADDRESS MIGRATION INSTANCE COMPARISONS\n");
    return 2;
  }
  return lockstep::Main(argv[1], argv[2], argv[3], goal);
}
