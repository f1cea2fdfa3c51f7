// The operational pages of a running server.
#include "server/http/metrics_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <set>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tests/store/temp_directory.h"
#include "tests/support/api_client.h"
#include "tests/support/child_process.h"
#include "tests/support/http_client.h"
#include "tests/support/in_process_server.h"
#include "tests/support/status_matchers.h"

namespace lockstep::http {
namespace {

using testing::HttpGet;
using testing::IsOk;
using testing::MetricValue;
using testing::NameOf;

class MetricsPageTest : public ::testing::Test {
 protected:
  MetricsPageTest() : server_(testing::StartServer(Config())), api_(testing::AddressOf(*server_)) {}

  static app::Config Config() {
    app::Config config = testing::QuietConfig();
    config.gate_interval = absl::Milliseconds(20);
    return config;
  }
  std::string Page() { return HttpGet(server_->http_port(), "/metrics").body; }

  // A migration with a check, an instance, telemetry of every sort, and a gate that has looked.
  void CreateBusyMigration(const std::string& id) {
    v1::Migration migration = testing::SampleMigration();
    v1::Check* check = migration.mutable_plan()->mutable_steps(1)->add_checks();
    check->set_name("mismatches");
    check->set_metric(v1::METRIC_MISMATCH_RATIO);
    check->set_budget(0.01);
    ASSERT_TRUE(IsOk(api_.Create(id, migration)));
    ASSERT_TRUE(IsOk(api_.Start(id)));
    ASSERT_TRUE(testing::Eventually([&] { return api_.Advance(id).ok(); }));
    v1::ReportComparisonsRequest batch = testing::SampleBatch("i-1", 1, 1, id, 90);
    v1::WindowStats* stats = batch.mutable_deltas(0)->mutable_stats();
    v1::OutcomeCount* mismatches = stats->add_comparisons();
    mismatches->set_outcome(v1::COMPARISON_OUTCOME_MISMATCH);
    mismatches->set_count(10);
    for (const char* field : {"name", "undeclared"}) {
      v1::FieldMismatchCount* count = stats->add_field_mismatches();
      count->set_field(field);
      count->set_kind(v1::MISMATCH_KIND_VALUE);
      count->set_count(5);
    }
    stats->mutable_old_arm()->set_requests(100);
    stats->mutable_old_arm()->set_errors(2);
    v1::LatencyBucket* latency = stats->mutable_old_arm()->add_latency();
    latency->set_index(300);
    latency->set_count(100);
    stats->mutable_writes()->set_authoritative_ok(7);
    stats->mutable_writes()->set_mirror_ok(6);
    stats->mutable_writes()->set_mirror_failed(1);
    stats->set_comparisons_shed(3);
    stats->set_repairs_queued(5);
    stats->set_repairs_done(2);
    ASSERT_TRUE(IsOk(api_.Report(batch)));
    ASSERT_TRUE(testing::Eventually([&] { return absl::StrContains(Page(), "lockstep_gate_check_value{"); }));
  }

  std::unique_ptr<app::Server> server_;
  testing::ApiClient api_;
};

TEST_F(MetricsPageTest, ShowsWhatWasReported) {
  CreateBusyMigration("orders");
  const std::string page = Page();
  const std::string label = absl::StrCat("migration=\"", NameOf("orders"), "\"");
  const std::vector<std::pair<std::string, double>> expected = {
      {absl::StrCat("lockstep_comparisons_total{", label, ",outcome=\"match\"}"), 90},
      {absl::StrCat("lockstep_comparisons_total{", label, ",outcome=\"mismatch\"}"), 10},
      {absl::StrCat("lockstep_field_mismatches_total{", label, ",field=\"name\"}"), 5},
      {absl::StrCat("lockstep_field_mismatches_total{", label, ",field=\"_other\"}"), 5},
      {absl::StrCat("lockstep_reads_total{", label, ",side=\"old\",outcome=\"ok\"}"), 98},
      {absl::StrCat("lockstep_reads_total{", label, ",side=\"old\",outcome=\"error\"}"), 2},
      {absl::StrCat("lockstep_writes_total{", label, ",role=\"mirror\",outcome=\"error\"}"), 1},
      {absl::StrCat("lockstep_dropped_samples_total{", label, ",reason=\"comparison_shed\"}"), 3},
      {absl::StrCat("lockstep_operation_duration_seconds_count{", label, ",op=\"read\",side=\"old\"}"), 100},
      {absl::StrCat("lockstep_migration_stage{", label, ",stage=\"SHADOW_READ\"}"), 1},
      {absl::StrCat("lockstep_migration_stage{", label, ",stage=\"OFF\"}"), 0},
      {absl::StrCat("lockstep_read_target_ratio{", label, "}"), 0},
      {absl::StrCat("lockstep_gate_check_threshold{", label, ",check=\"mismatches\"}"), 0.01},
      {absl::StrCat("lockstep_repairs_outstanding{", label, "}"), 3},
      {"lockstep_telemetry_batches_total{outcome=\"counted\"}", 1},
  };
  for (const auto& [sample, value] : expected) EXPECT_EQ(MetricValue(page, sample), value) << sample;
}

// What takes a minute of traffic to see: checks of every sort, and the share of reads.
engine::EngineMetrics JudgedMetrics() {
  engine::EngineMetrics metrics;
  engine::MigrationMetrics one;
  one.name = NameOf("judged");
  one.read_observed_ratio = 0.25;
  one.repairs_outstanding = 7;
  domain::GateResult gate;
  const auto add = [&](const char* name, domain::Metric metric, double estimate, double budget) {
    domain::CheckResult& check = gate.checks.emplace_back();
    check.check = name;
    check.metric = metric;
    check.estimate = estimate;
    check.budget = budget;
    check.upper = estimate * 2;
  };
  add("mismatches", domain::Metric::kMismatchRatio, 0.001, 0.01);
  add("city", domain::Metric::kMismatchRatio, 0.002, 0.01);
  gate.checks.back().field = "city";
  add("latency-p95", domain::Metric::kLatency, 0.05, 0);
  add("repairs", domain::Metric::kOutstandingRepairs, 7, 10);
  add("coverage", domain::Metric::kCoverage, 0.5, 0.999);
  one.gate = std::make_shared<const engine::GateEvaluation>(std::move(gate), absl::UnixEpoch());
  metrics.migrations.push_back(std::move(one));
  return metrics;
}

TEST(RenderMetrics, ShowsEveryCheckUnderItsNameAlone) {
  const std::string page = RenderMetrics(JudgedMetrics(), "1");
  const std::string label = absl::StrCat("migration=\"", NameOf("judged"), "\"");
  const auto of = [&](absl::string_view family, absl::string_view check) {
    return MetricValue(page, absl::StrCat(family, "{", label, ",check=\"", check, "\"}"));
  };
  EXPECT_EQ(of("lockstep_gate_check_value", "repairs"), 7);
  EXPECT_EQ(of("lockstep_gate_check_threshold", "repairs"), 10);
  EXPECT_EQ(of("lockstep_gate_check_value", "coverage"), 0.5);
  EXPECT_EQ(of("lockstep_gate_check_value", "latency-p95"), 0.05);
  EXPECT_EQ(of("lockstep_mismatch_ratio_upper_bound", "mismatches"), 0.002);
  EXPECT_FALSE(absl::StrContains(page, absl::StrCat("upper_bound{", label, ",check=\"city\"")));
  EXPECT_EQ(MetricValue(page, absl::StrCat("lockstep_read_observed_ratio{", label, "}")), 0.25);
  EXPECT_EQ(MetricValue(page, absl::StrCat("lockstep_repairs_outstanding{", label, "}")), 7);
}

TEST_F(MetricsPageTest, NamesAreAsDocumented) {
  CreateBusyMigration("orders");
  std::set<std::string> names;
  const std::string pages = Page() + RenderMetrics(JudgedMetrics(), "1");
  for (absl::string_view line : absl::StrSplit(pages, '\n')) {
    const std::vector<std::string> words = absl::StrSplit(line, absl::MaxSplits(' ', 3));
    if (words.size() == 4 && words[1] == "TYPE") names.insert(absl::StrCat(words[2], " ", words[3]));
  }
  const std::string shown = absl::StrJoin(names, "\n") + "\n";
  const std::string path = std::string(LOCKSTEP_GOLDEN_DIR) + "/metric_names.txt";
  if (std::getenv("LOCKSTEP_UPDATE_GOLDEN") != nullptr) std::ofstream(path) << shown;
  EXPECT_EQ(shown, testing::ReadFileOrEmpty(path))
      << "run with LOCKSTEP_UPDATE_GOLDEN=1 and review the difference";
}

TEST_F(MetricsPageTest, PromtoolFindsNothingToComplainAbout) {
  CreateBusyMigration("orders");
  CreateBusyMigration("payments");
  store::TempDirectory directory;
  const std::string file = directory.path() + "/metrics";
  for (const std::string& page : {Page(), RenderMetrics(JudgedMetrics(), "1")}) {
    std::ofstream(file) << page;
    const testing::Finished checked =
        testing::Run({"/bin/sh", "-c", absl::StrCat("promtool check metrics < ", file)},
                     {.output = directory.path() + "/output"});
    EXPECT_EQ(checked.exit_code, 0) << checked.output;
    EXPECT_EQ(checked.output, "");
  }
}

TEST_F(MetricsPageTest, SeriesVanishWithTheMigration) {
  CreateBusyMigration("orders");
  ASSERT_TRUE(absl::StrContains(Page(), NameOf("orders")));
  v1::AbortMigrationRequest abort;
  abort.set_name(NameOf("orders"));
  ASSERT_TRUE(IsOk(api_.Call(&v1::MigrationService::Stub::AbortMigration, abort)));
  v1::DeleteMigrationRequest drop;
  drop.set_name(NameOf("orders"));
  ASSERT_TRUE(testing::Eventually(
      [&] { return api_.Call(&v1::MigrationService::Stub::DeleteMigration, drop).ok(); }));
  EXPECT_FALSE(absl::StrContains(Page(), NameOf("orders"))) << Page();
  // A migration of the same name starts from nothing.
  ASSERT_TRUE(IsOk(api_.Create("orders", testing::SampleMigration())));
  EXPECT_EQ(MetricValue(Page(), absl::StrCat("lockstep_comparisons_total{migration=\"", NameOf("orders"),
                                             "\",outcome=\"match\"}")),
            0);
}

TEST_F(MetricsPageTest, LivenessAndReadiness) {
  EXPECT_EQ(HttpGet(server_->http_port(), "/healthz").body, "ok\n");
  EXPECT_EQ(HttpGet(server_->http_port(), "/readyz").body, "ready\n");
  const testing::HttpAnswer missing = HttpGet(server_->http_port(), "/");
  EXPECT_EQ(missing.status, 404);
  EXPECT_TRUE(absl::StrContains(missing.body, "/healthz\n/metrics\n/readyz\n")) << missing.body;
  EXPECT_TRUE(absl::StrContains(HttpGet(server_->http_port(), "/metrics").head, "text/plain; version=0.0.4"));
}

}  // namespace
}  // namespace lockstep::http
