#include "client/cli/render.h"

#include "absl/strings/str_cat.h"
#include "client/cli/render_fleet.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cli/golden.h"
#include "tests/cli/samples.h"

namespace lockstep::cli {
namespace {

RenderOptions Plain() { return {{.color = false, .unicode = true}, SampleNow(), false}; }
RenderOptions Wide() { return {{.color = false, .unicode = true}, SampleNow(), true}; }
RenderOptions Colored() { return {{.color = true, .unicode = true}, SampleNow(), false}; }
RenderOptions Ascii() { return {{.color = false, .unicode = false}, SampleNow(), false}; }

TEST(RenderTest, Migration) {
  ExpectGolden("get_canary.txt", RenderMigration(CanaryMigration(), SampleInstances(), Plain()));
  ExpectGolden("get_canary_wide.txt", RenderMigration(CanaryMigration(), SampleInstances(), Wide()));
  ExpectGolden("get_canary_color.txt", RenderMigration(CanaryMigration(), SampleInstances(), Colored()));
  ExpectGolden("get_canary_ascii.txt", RenderMigration(CanaryMigration(), SampleInstances(), Ascii()));
  ExpectGolden("get_rolled_back.txt", RenderMigration(RolledBackMigration(), {}, Plain()));
  ExpectGolden("get_pending.txt", RenderMigration(PendingMigration(), SampleInstances(), Plain()));
  ExpectGolden("get_cutover.txt", RenderMigration(CutoverMigration(), SampleFleet(), Plain()));
  ExpectGolden("get_new_only.txt", RenderMigration(NewOnlyMigration(), {}, Plain()));
  ExpectGolden("get_draft.txt", RenderMigration(DraftMigration(), {}, Plain()));
}

TEST(RenderTest, Lists) {
  const std::vector<v1::Migration> migrations = {CanaryMigration(), DraftMigration(), PendingMigration(),
                                                 RolledBackMigration()};
  ExpectGolden("list.txt", RenderMigrations(migrations, Plain()));
  ExpectGolden("list_wide.txt", RenderMigrations(migrations, Wide()));
  ExpectGolden("instances.txt", RenderInstances(SampleInstances(), Plain()));
  ExpectGolden("fleet.txt", RenderInstances(SampleFleet(), Plain()));
  ExpectGolden("fleet_wide.txt", RenderInstances(SampleFleet(), Wide()));
  ExpectGolden("history.txt", RenderDecisions(SampleDecisions(), Plain()));
  ExpectGolden("history_wide.txt", RenderDecisions(SampleDecisions(), Wide()));
  ExpectGolden("mismatches.txt", RenderMismatches(SampleMismatches(), Plain()));
  ExpectGolden("route.txt",
               RenderRoute("namespaces/demo/migrations/cities", "geonames-1\x1b[2J", SampleRoute(), Plain()));
  EXPECT_EQ(RenderMigrations({}, Plain()), "");
}

TEST(RenderTest, NothingFromOutsideReachesTheTerminalRaw) {
  for (const std::string& text : {RenderMigration(CanaryMigration(), SampleInstances(), Plain()),
                                  RenderMigration(CutoverMigration(), SampleFleet(), Plain()),
                                  RenderMigrations({CanaryMigration()}, Wide())}) {
    EXPECT_EQ(text.find('\x1b'), std::string::npos);
  }
}

TEST(RenderTest, Drill) {
  std::vector<v1::Instance> fleet = SampleFleet();
  ExpectGolden("drill_missing.txt", RenderDrill(JudgeDrill("demo/cities", 31, fleet), Plain()));
  for (v1::Instance& instance : fleet) instance.set_accepted_epoch(31);
  const DrillReport all = JudgeDrill("demo/cities", 31, fleet);
  EXPECT_EQ(all.following, 4u);
  ExpectGolden("drill.txt", RenderDrill(all, Plain()));
  // Published again meanwhile: they follow, but how fast they followed this one is not known.
  EXPECT_THAT(JudgeDrill("demo/cities", 30, fleet).delays, testing::IsEmpty());
  EXPECT_TRUE(JudgeDrill("demo/cities", 30, fleet).missing.empty());
  EXPECT_EQ(RenderDrill(JudgeDrill("demo/cities", 31, {}), Ascii()),
            "+ FOLLOWED  demo/cities: 0 of 0 instances act on epoch 31\n");
}

TEST(RenderTest, WaitsAreGroupedByWhatTheyAreAbout) {
  v1::Migration migration = CutoverMigration();
  for (int i = 3; i < 8; ++i) {
    v1::FenceWait* wait = migration.add_waiting_for();
    *wait = migration.waiting_for(0);
    wait->set_instance_id(absl::StrCat("cities-", i));
    wait->clear_pinned_by();
    if (i == 5) wait->set_unblock("resume it");
  }
  ExpectGolden("pending_groups.txt", RenderPending(migration, Plain()));
  EXPECT_EQ(WaitingForCount(migration), static_cast<uint32_t>(migration.waiting_for_size()));
  migration.set_waiting_for_count(130);
  EXPECT_THAT(RenderPending(migration, Plain()),
              testing::EndsWith(absl::StrCat("and ", 130 - migration.waiting_for_size(), " more\n")));
  const auto groups = GroupFenceWaits(migration);
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(DescribeWaitedFor(groups[0]), "cities-2, cities-3, cities-4 and 2 more");
  EXPECT_EQ(DescribeWaitedFor(groups[1]), "cities-5");
}

TEST(RenderTest, DelayQuantilesAreNearestRanks) {
  std::vector<absl::Duration> delays;
  for (int i = 1; i <= 200; ++i) delays.push_back(absl::Milliseconds(i));
  EXPECT_EQ(DelayQuantile(delays, 0.5), absl::Milliseconds(100));
  EXPECT_EQ(DelayQuantile(delays, 0.99), absl::Milliseconds(198));
  EXPECT_EQ(DelayQuantile(delays, 1), absl::Milliseconds(200));
  EXPECT_EQ(DelayQuantile({absl::Seconds(1)}, 0.5), absl::Seconds(1));
}

TEST(RenderTest, Preconditions) {
  const ErrorInfo info{
      .reason = "GATE_HOLDS",
      .metadata = {},
      .field_violations = {},
      .precondition_violations = {{"GATE_HOLDS", "errors", "2 of 400: needs 1203 more clean reads"},
                                  {"GATE_HOLDS", "min_bake", "20m of the minimum bake time left"}}};
  ExpectGolden("preconditions.txt", RenderPreconditions(info, Style{}));
  EXPECT_EQ(RenderPreconditions({}, Style{}), "");
}

TEST(RenderTest, RoutingStates) {
  v1::RoutingState state;
  state.set_stage(v1::STAGE_CUTOVER);
  state.set_read_weight(100000);
  state.set_write_weight(1000);
  state.set_drain_weight(2000);
  EXPECT_EQ(DescribeRouting(state), "CUTOVER 1 % written new, held up to 2 %");
  state.set_drain_weight(1000);
  EXPECT_EQ(DescribeRouting(state), "CUTOVER 1 % written new");
  state.set_stage(v1::STAGE_NEW_ONLY);
  EXPECT_EQ(DescribeRouting(state), "NEW_ONLY");
}

}  // namespace
}  // namespace lockstep::cli
