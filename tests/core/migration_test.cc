#include "core/domain/migration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockstep::domain {
namespace {

using ::testing::HasSubstr;

TEST(MigrationNameTest, BothFormsNameTheSameMigration) {
  const std::string longest(63, 'z');
  for (const auto& [name, ns, id] :
       std::vector<std::array<std::string, 3>>{{"namespaces/shop/migrations/orders-v2", "shop", "orders-v2"},
                                               {"shop/orders-v2", "shop", "orders-v2"},
                                               {"a/b", "a", "b"},
                                               {"namespaces/migrations", "namespaces", "migrations"},
                                               {longest + "/" + longest, longest, longest}}) {
    const absl::StatusOr<MigrationId> parsed = ParseMigrationName(name);
    ASSERT_TRUE(parsed.ok()) << name << ": " << parsed.status();
    EXPECT_EQ(parsed->ns, ns);
    EXPECT_EQ(parsed->id, id);
    EXPECT_EQ(FullMigrationName(*parsed), "namespaces/" + ns + "/migrations/" + id);
    EXPECT_EQ(ShortMigrationName(FullMigrationName(*parsed)), ns + "/" + id);
  }
}

TEST(MigrationNameTest, RefusesOtherNamesAndSaysWhichPart) {
  const std::string too_long(64, 'z');
  for (const auto& [name, message] :
       std::vector<std::pair<std::string, std::string>>{{"", "unknown form"},
                                                        {"orders", "unknown form"},
                                                        {"a/b/c", "unknown form"},
                                                        {"namespaces/a/migrations/b/c", "unknown form"},
                                                        {"namespaces/a/migrations/b/", "unknown form"},
                                                        {"a/b/", "unknown form"},
                                                        {std::string(100'000, '/'), "unknown form"},
                                                        {"Namespaces/a/migrations/b", "unknown form"},
                                                        {"namespaces/a/migration/b", "unknown form"},
                                                        {"namespaces//migrations/b", "namespace is empty"},
                                                        {"a/", "id is empty"},
                                                        {"/b", "namespace is empty"},
                                                        {"A/b", "namespace may hold"},
                                                        {"a/b_c", "id may hold"},
                                                        {"a/b c", "id may hold"},
                                                        {"a/\xc3\xa9", "id may hold"},
                                                        {"1a/b", "namespace must start with a letter"},
                                                        {"a/-b", "id must start with a letter"},
                                                        {"a/b-", "id must not end with '-'"},
                                                        {"a/" + too_long, "id has 64 characters"}}) {
    const absl::StatusOr<MigrationId> parsed = ParseMigrationName(name);
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(std::string(parsed.status().message()), HasSubstr(message)) << name;
    EXPECT_EQ(ShortMigrationName(name), name);  // for display: whatever it is
  }
}

TEST(DeadlineOf, RunsWhileTheStepIsRunningAndNotLeft) {
  Migration running;
  running.plan.steps = {{.stage = Stage::kDualWrite},
                        {.stage = Stage::kShadowRead, .deadline = absl::Hours(2)}};
  running.deadline_from = absl::FromUnixSeconds(1'700'000'000);
  struct Row {
    const char* what;
    RunState run_state;
    int step;
    bool pending;
    bool runs;
  };
  const Row kRows[] = {
      {"running", RunState::kRunning, 1, false, true},
      {"no deadline", RunState::kRunning, 0, false, false},
      {"off", RunState::kRunning, -1, false, false},
      {"the plan is shorter now", RunState::kRunning, 2, false, false},
      {"waits to be published", RunState::kRunning, 1, true, false},
      {"paused", RunState::kPaused, 1, false, false},
      {"succeeded", RunState::kSucceeded, 1, false, false},
      {"rolled back", RunState::kRolledBack, 1, false, false},
      {"draft", RunState::kDraft, 1, false, false},
  };
  for (const Row& row : kRows) {
    Migration migration = running;
    migration.run_state = row.run_state;
    migration.step = row.step;
    if (row.pending) migration.pending.emplace();
    EXPECT_EQ(DeadlineOf(migration),
              row.runs ? migration.deadline_from + absl::Hours(2) : absl::InfiniteFuture())
        << row.what;
  }
}

}  // namespace
}  // namespace lockstep::domain
