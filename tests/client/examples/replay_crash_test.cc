// A service process replays an operation log as the demo does (old side, mirror, acknowledgement) and dies by
// SIGKILL at every possible step. Started again, it repeats its log from the start with the same idempotency
// keys; in the end both sides hold the expected data and nothing acknowledged is lost.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <limits>

#include "absl/strings/str_cat.h"
#include "client/examples/cities/ack_log.h"
#include "client/examples/cities/backfill.h"
#include "client/examples/cities/dataset.h"
#include "client/examples/cities/verify.h"
#include "core/base/status_macros.h"
#include "tests/client/examples/cities_testing.h"

namespace lockstep::examples {
namespace {

// Counts the steps between which a process may die, and dies at the chosen one.
class CrashPoint {
 public:
  explicit CrashPoint(int fatal_step) : fatal_step_(fatal_step) {}
  void Pass() {
    if (step_++ == fatal_step_) raise(SIGKILL);
  }

 private:
  const int fatal_step_;
  int step_ = 0;
};

absl::Status Replay(const TempDir& dir, const std::vector<Operation>& log, CrashPoint crash) {
  LOCKSTEP_ASSIGN_OR_RETURN(const auto legacy, LegacyStore::Open(dir.File("legacy.db")));
  LOCKSTEP_ASSIGN_OR_RETURN(const auto modern, ModernStore::Open(dir.File("modern.db")));
  LOCKSTEP_ASSIGN_OR_RETURN(const auto acks, AckLog::Open(dir.File("acks")));
  for (const Operation& operation : log) {
    const std::string key = absl::StrCat("operation ", operation.sequence);
    crash.Pass();
    const auto row = operation.kind == OperationKind::kDelete ? legacy->Delete(operation.city.id, key)
                                                              : legacy->Put(operation.city, key);
    if (!row.ok()) return row.status();
    crash.Pass();
    std::optional<CanonicalCity> mirrored;
    if (row->city.has_value()) {
      LOCKSTEP_ASSIGN_OR_RETURN(mirrored, MapCity(MapperVersion::kCorrect, *row->city));
    }
    LOCKSTEP_RETURN_IF_ERROR(
        modern->ApplyIfNewer(row->id, mirrored, {row->version, MapperVersion::kCorrect}).status());
    crash.Pass();
    LOCKSTEP_RETURN_IF_ERROR(acks->Append({row->id, row->version, !row->city.has_value()}));
  }
  return absl::OkStatus();
}

TEST(ReplayCrashTest, NothingAcknowledgedIsLostWhereverTheProcessDies) {
  std::vector<City> from;
  std::vector<City> to;
  for (int64_t id = 1; id <= 4; ++id) from.push_back(MakeCity(id, absl::StrCat("City ", id)));
  to = {from[0], MakeCity(0, "City 2", "1"), MakeCity(0, "City 3", "2"), MakeCity(0, "New"),
        MakeCity(0, "Newer")};
  const DatasetDelta delta = Diff(from, to);
  const std::vector<Operation> log = ShuffleOperations(delta.operations, /*seed=*/1);
  const int steps = static_cast<int>(log.size()) * 3;
  ASSERT_EQ(steps, 15);

  for (int fatal_step = 0; fatal_step < steps; ++fatal_step) {
    SCOPED_TRACE(fatal_step);
    const TempDir dir;
    ASSERT_TRUE((*LegacyStore::Open(dir.File("legacy.db")))->Load(from).ok());
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      Replay(dir, log, CrashPoint(fatal_step)).IgnoreError();
      _exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;

    const auto legacy = LegacyStore::Open(dir.File("legacy.db"));
    const auto modern = ModernStore::Open(dir.File("modern.db"));
    ASSERT_TRUE(legacy.ok() && modern.ok()) << legacy.status() << modern.status();
    const auto acked_before = ReadAckLog(dir.File("acks"));
    ASSERT_TRUE(acked_before.ok());
    EXPECT_EQ(VerifyAcks(acked_before->acks, **legacy, **modern)->lost_writes, 0);

    ASSERT_TRUE(Replay(dir, log, CrashPoint(std::numeric_limits<int>::max())).ok());
    ASSERT_TRUE(Backfill(**legacy, **modern, {}).ok());
    EXPECT_TRUE(VerifyLegacy(**legacy, delta.target)->Clean());
    EXPECT_TRUE(VerifyModern(**modern, delta.target)->Clean());
    EXPECT_EQ((*legacy)->Stats()->latest_version, static_cast<int64_t>(from.size() + log.size()))
        << "no operation was written twice";
    const auto acked = VerifyAcks(ReadAckLog(dir.File("acks"))->acks, **legacy, **modern);
    ASSERT_TRUE(acked.ok()) << acked.status();
    EXPECT_EQ(acked->acked_writes, static_cast<int64_t>(log.size()));
    EXPECT_EQ(acked->lost_writes, 0);
  }
}

}  // namespace
}  // namespace lockstep::examples
