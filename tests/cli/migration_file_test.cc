#include "client/cli/migration_file.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/cli/definition.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cli/golden.h"

namespace lockstep::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::vector<std::string> Formatted(const std::vector<Diagnostic>& diagnostics) {
  std::vector<std::string> out;
  for (const Diagnostic& diagnostic : diagnostics) out.push_back(FormatDiagnostic("f", diagnostic));
  return out;
}

TEST(MigrationFileTest, ReadsEveryKindOfField) {
  const MigrationFile file = ParseMigrationFile(R"(
name: demo/cities
description: 007
labels: {team: geo, "on": "5"}
owners: [a@example.com, b@example.com]
plan:
  alphaRollback: 2%
  cool_down: 1h30m
  expectedServices:
    - {service: cities, min_instances: 3}
  steps:
    - stage: dual_write
    - stage: STAGE_SHADOW_READ
      min_bake: 500ms
      manual: true
      checks:
        - {name: m, metric: mismatch_ratio, budget: 0.1%, on_breach: pause, advisory: false}
    - stage: CANARY_READ
      weight: 0.001%
contract:
  fields:
    - {path: a.b, tolerance: 1e-6, default_value: 0, list_order: unordered, sensitive: true}
pins:
  old_keys: [k1]
  rules: [{attribute: tenant, values: [x, y], side: new}]
)",
                                                "default");
  ASSERT_THAT(Formatted(file.diagnostics), IsEmpty());
  ASSERT_THAT(file.documents, SizeIs(1));
  const v1::Migration& m = file.documents[0].migration;
  EXPECT_EQ(m.name(), "namespaces/demo/migrations/cities");
  EXPECT_EQ(m.description(), "007");
  EXPECT_EQ(m.labels().at("team"), "geo");
  EXPECT_EQ(m.labels().at("on"), "5");
  EXPECT_THAT(m.owners(), ElementsAre("a@example.com", "b@example.com"));
  EXPECT_EQ(m.plan().alpha_rollback(), 0.02);
  EXPECT_EQ(m.plan().cool_down().seconds(), 5400);
  EXPECT_EQ(m.plan().expected_services(0).min_instances(), 3u);
  EXPECT_EQ(m.plan().steps(0).stage(), v1::STAGE_DUAL_WRITE);
  EXPECT_EQ(m.plan().steps(1).min_bake().nanos(), 500'000'000);
  EXPECT_TRUE(m.plan().steps(1).manual());
  EXPECT_EQ(m.plan().steps(1).checks(0).budget(), 0.001);
  EXPECT_EQ(m.plan().steps(1).checks(0).on_breach(), v1::BREACH_ACTION_PAUSE);
  EXPECT_EQ(m.plan().steps(2).weight(), 1u);
  EXPECT_EQ(m.contract().fields(0).default_value(), "0");
  EXPECT_EQ(m.contract().fields(0).list_order(), v1::LIST_ORDER_UNORDERED);
  EXPECT_EQ(m.pins().rules(0).side(), v1::SIDE_NEW);
}

TEST(MigrationFileTest, ReadsEveryBoundOfAPlan) {
  const MigrationFile file = ParseMigrationFile(R"(
name: demo/cities
plan:
  telemetry_limits: {max_not_comparable: 5%, max_share_skew: 2, stale_after: 2m}
  steps:
    - stage: CANARY_READ
      weight: 1%
      deadline: 2h
      checks:
        - {name: a, metric: latency, quantile: p95}
        - {name: b, metric: latency, quantile: 0.99}
        - {name: c, metric: latency, quantile: 50%}
        - {name: d, metric: coverage, limit: 99.9%}
        - {name: e, metric: outstanding_repairs, limit: 10}
        - {name: f, metric: throughput_share, limit: 1.5}
        - {name: g, metric: paired_error_ratio, floor: 0.5%}
)",
                                                "default");
  ASSERT_THAT(Formatted(file.diagnostics), IsEmpty());
  const v1::Plan& plan = file.documents[0].migration.plan();
  EXPECT_EQ(plan.telemetry_limits().max_not_comparable(), 0.05);
  EXPECT_EQ(plan.telemetry_limits().max_share_skew(), 2);
  EXPECT_EQ(plan.telemetry_limits().stale_after().seconds(), 120);
  const v1::PlanStep& step = plan.steps(0);
  EXPECT_EQ(step.deadline().seconds(), 7200);
  EXPECT_EQ(step.checks(0).quantile(), 0.95);
  EXPECT_EQ(step.checks(1).quantile(), 0.99);
  EXPECT_EQ(step.checks(2).quantile(), 0.5);
  EXPECT_EQ(step.checks(3).limit(), 0.999);
  EXPECT_EQ(step.checks(4).limit(), 10);
  EXPECT_EQ(step.checks(5).limit(), 1.5);
  EXPECT_EQ(step.checks(6).floor(), 0.005);
}

TEST(MigrationFileTest, PlansNeedNoName) {
  std::vector<Diagnostic> diagnostics;
  const auto plan = ReadPlanFile(
      "plan: {steps: [{stage: DUAL_WRITE}]}\ncontract: {fields: [{path: a}, {path: b}]}\n", &diagnostics);
  ASSERT_TRUE(plan.has_value());
  EXPECT_THAT(Formatted(diagnostics), IsEmpty());
  EXPECT_THAT(plan->plan.steps, SizeIs(1));
  EXPECT_EQ(plan->declared_fields, 2u);
  EXPECT_FALSE(
      ReadPlanFile("plan: {steps: [{stage: DUAL_WRITE}]}\n---\nplan: {}\n", &diagnostics).has_value());
  EXPECT_THAT(Formatted(diagnostics),
              ElementsAre("f:3:1: error: a second migration: a plan is read from a file that defines one"));
  EXPECT_FALSE(ReadPlanFile("plan:\n  steps: [{stage: SHADOW_READ}]\n", &diagnostics).has_value());
  EXPECT_THAT(diagnostics, SizeIs(1));
}

TEST(MigrationFileTest, NamesWithoutNamespaceTakeTheDefault) {
  const MigrationFile file = ParseMigrationFile("name: a\n---\nname: namespaces/x/migrations/b\n---\n", "ns");
  ASSERT_TRUE(file.ok());
  ASSERT_THAT(file.documents, SizeIs(2));
  EXPECT_EQ(file.documents[0].migration.name(), "namespaces/ns/migrations/a");
  EXPECT_EQ(file.documents[1].migration.name(), "namespaces/x/migrations/b");
}

TEST(MigrationFileTest, ErrorsSayWhereAndWhat) {
  const struct {
    const char* text;
    std::vector<std::string> errors;
  } kTable[] = {
      {"", {"f:1:1: error: the file defines no migration"}},
      {"# only a comment\n", {"f:1:1: error: the file defines no migration"}},
      {"- a\n",
       {"f:1:1: error: the document must be a mapping with the fields name, description, labels, owners, "
        "salt, "
        "plan, contract, pins; found a list"}},
      {"description: x\n", {"f:1:1: error: `name` is missing: write \"name: {namespace}/{id}\""}},
      {"name:\n", {"f:1:1: error: `name` has no value: give one or remove the line"}},
      {"name: [x]\n", {"f:1:7: error: `name`: must be a single value; found a list"}},
      {"name: a/b\nname: a/c\n", {"f:2:1: error: `name` is given twice; first on line 1"}},
      {"name: a/b\nplan: {cool_down: 1s, coolDown: 2s}\n",
       {"f:2:23: error: `cool_down` is given twice in plan; first on line 2"}},
      {"name: a/b\nlabels:\n  x: 1\n  x: 2\n",
       {"f:4:3: error: `x` is given twice in labels; first on line 3"}},
      {"name: a/b\nplan:\n  stepz: []\n",
       {"f:3:3: error: unknown field `stepz` in plan: did you mean `steps`?"}},
      {"name: a/b\nplan:\n  frobnicate: 1\n",
       {"f:3:3: error: unknown field `frobnicate` in plan: known are steps, alpha_rollback, alpha_advance, "
        "expected_services, cool_down, telemetry_limits, cutover"}},
      {"name: a/b\nplan:\n  steps:\n    - stage: CANARY\n",
       {"f:4:14: error: `stage`: unknown value \"CANARY\": allowed are OFF, DUAL_WRITE, SHADOW_READ, "
        "CANARY_READ, "
        "CUTOVER, NEW_ONLY, COMPLETE"}},
      {"name: a/b\nplan:\n  steps:\n    - checks:\n        - metric: slowness\n",
       {"f:5:19: error: `metric`: unknown value \"slowness\": allowed are mismatch_ratio, error_ratio, "
        "mirror_failure_ratio, paired_error_ratio, latency, paired_latency, outstanding_repairs, coverage, "
        "throughput_share"}},
      {"name: a/b\nplan:\n  steps:\n    - checks:\n        - {quantile: p100}\n        - {limit: all}\n      "
       "  - "
       "{quantile: slow}\n",
       {"f:5:22: error: `quantile`: \"p100\" is not a quantile: write it as \"p95\" or as \"0.95\"",
        "f:6:19: error: `limit`: must be a number, or a share like \"99.9%\"; found \"all\"",
        "f:7:22: error: `quantile`: \"slow\" is not a quantile: write it as \"p95\" or as \"0.95\""}},
      {"name: a/b\nplan:\n  telemetry_limits: {stale_after: 60, max_not_comparable: most}\n",
       {"f:3:35: error: `stale_after`: \"60\" is not a duration: write a number with a unit, like \"30s\", "
        "\"5m\" or "
        "\"1h30m\"",
        "f:3:59: error: `max_not_comparable`: \"most\" is not a rate: write it as \"0.1%\" or as \"0.001\""}},
      {"name: a/b\ndeadline_time: now\n", {"f:2:1: error: `deadline_time` is set by the server: remove it"}},
      {"name: a/b\nplan:\n  steps:\n    - weight: 101%\n      min_bake: 30\n      manual: yes\n",
       {"f:4:15: error: `weight`: \"101%\" is more than 100 %",
        "f:5:17: error: `min_bake`: \"30\" is not a duration: write a number with a unit, like \"30s\", "
        "\"5m\" or "
        "\"1h30m\"",
        "f:6:15: error: `manual`: must be true or false; found \"yes\""}},
      {"name: a/b\nplan:\n  steps: DUAL_WRITE\n",
       {"f:3:10: error: `steps` must be a list (lines that start with \"- \"); found a single value"}},
      {"name: a/b\nowners: [{a: b}]\n", {"f:2:10: error: owners[0] must be text; found a mapping"}},
      {"name: a/b\nlabels: [x]\n",
       {"f:2:9: error: `labels` must be a mapping of names to values; found a list"}},
      {"name: a/b\nlabels: {x: [y]}\n", {"f:2:10: error: the value of `x` must be text; found a list"}},
      {"name: a/b\nplan: {alpha_advance: high}\n",
       {"f:2:23: error: `alpha_advance`: \"high\" is not a rate: write it as \"0.1%\" or as \"0.001\""}},
      {"name: a/b\ncontract: {fields: [{tolerance: nan}]}\n",
       {"f:2:33: error: `tolerance`: must be a number; found \"nan\""}},
      {"name: a/b\nplan: {expected_services: [{min_instances: -1}]}\n",
       {"f:2:44: error: `min_instances`: must be a whole number from 0 to 4294967295; found \"-1\""}},
      {"name: a/b\nrun_state: RUNNING\n", {"f:2:1: error: `run_state` is set by the server: remove it"}},
      {"name: a/b\ncontract:\n  revision: 3\n", {"f:3:3: error: `revision` is set by the server: remove it"}},
      {"name: a/b\n? [x]\n: 1\n", {"f:2:3: error: a field name must be text; found a list"}},
      {"name: a/B\n",
       {"f:1:7: error: migration name: the id may hold a-z, 0-9 and '-' only; a migration is named "
        "\"namespaces/{namespace}/migrations/{id}\" or, in short, \"{namespace}/{id}\""}},
      {"name: a/b\n---\nname: a/b\n", {"f:3:7: error: this migration is defined twice; first on line 1"}},
      {"name: a/b\n  bad: indent\n", {"f:2:6: error: not valid YAML: illegal map value"}},
      {"name: [a\n", {"f:2:1: error: not valid YAML: end of sequence flow not found"}},
      {"name: *nowhere\n", {"f:1:7: error: not valid YAML: the referenced anchor is not defined"}},
      {"name: a/b\nplan: &p {steps: *p}\n", {}},
  };
  for (const auto& row : kTable) {
    if (row.errors.empty()) {
      EXPECT_FALSE(ParseMigrationFile(row.text, "default").ok()) << row.text;
      continue;
    }
    EXPECT_EQ(Formatted(ParseMigrationFile(row.text, "default").diagnostics), row.errors) << row.text;
  }
}

TEST(MigrationFileTest, FewBucketsAreQuestioned) {
  const MigrationFile file =
      ParseMigrationFile("name: a/b\nplan: {steps: [{weight: 5}, {weight: 101}]}\n", "default");
  EXPECT_TRUE(file.ok());
  EXPECT_THAT(
      Formatted(file.diagnostics),
      ElementsAre("f:2:25: warning: `weight`: 5 without a \"%\" counts buckets and means 0.005 %; write "
                  "\"5%\" for a percentage"));
}

TEST(MigrationFileTest, DeepNestingIsRefusedNotFollowed) {
  std::string deep = "name: ";
  for (int i = 0; i < 100'000; ++i) deep += '[';
  EXPECT_FALSE(ParseMigrationFile(deep, "default").ok());
}

TEST(LintTest, ViolationsPointIntoTheFile) {
  const auto lines = Formatted(LintMigrationFile(R"(name: a/b
plan:
  steps:
    - stage: SHADOW_READ
    - stage: CANARY_READ
      weight: 5%
      checks:
        - name: m
          metric: mismatch_ratio
          budget: 0
    - stage: CANARY_READ
      weight: 1%
)",
                                                 "default"));
  std::string all;
  for (const std::string& line : lines) absl::StrAppend(&all, line, "\n");
  ExpectGolden("lint.txt", all);
}

TEST(LintTest, WarningsAreNotErrors) {
  const auto diagnostics = LintMigrationFile(
      "name: a/b\nplan:\n  steps:\n    - stage: DUAL_WRITE\n    - stage: SHADOW_READ\n    - stage: "
      "CANARY_READ\n"
      "      weight: 100%\n",
      "default");
  ASSERT_FALSE(diagnostics.empty());
  for (const Diagnostic& diagnostic : diagnostics)
    EXPECT_EQ(diagnostic.severity, Severity::kWarning) << diagnostic.message;
}

TEST(LintTest, TheExampleIsClean) {
  EXPECT_THAT(Formatted(LintMigrationFile(ReadSourceFile("client/examples/migration.yaml"), "default")),
              IsEmpty());
}

TEST(SourceMapTest, FindsTheNearestContainer) {
  SourceMap map({1, 1});
  map.Add("plan", {2, 1});
  map.Add("plan.steps[0]", {4, 7});
  map.Add("plan.steps[0].weight", {5, 15});
  map.Add("labels", {9, 1});
  map.Add("labels[\"a.b\"]", {10, 3});
  EXPECT_EQ(map.Find("plan.steps[0].weight"), (Position{5, 15}));
  EXPECT_EQ(map.Find("plan.steps[0].checks[1].budget"), (Position{4, 7}));
  EXPECT_EQ(map.Find("plan.steps[7].stage"), (Position{2, 1}));
  EXPECT_EQ(map.Find("labels[\"a.b\"]"), (Position{10, 3}));
  EXPECT_EQ(map.Find("labels[\"c.d\"]"), (Position{9, 1}));
  EXPECT_EQ(map.Find("contract"), (Position{1, 1}));
}

TEST(CompareTest, DefaultsEqualWhatWasLeftOut) {
  const char* kText =
      "name: a/b\nlabels: {x: '1', y: '2'}\nplan:\n  steps:\n    - {stage: DUAL_WRITE, min_bake: 1m}\n";
  const v1::Migration wanted = ParseMigrationFile(kText, "default").documents[0].migration;
  v1::Migration current = wanted;
  current.set_uid("u");
  current.set_salt("u");
  current.set_etag("7");
  current.mutable_plan()->set_alpha_rollback(0.01);
  current.mutable_plan()->mutable_cool_down();
  current.mutable_contract()->set_revision(4);
  const auto same = CompareDefinitions(current, wanted);
  ASSERT_TRUE(same.ok()) << same.status();
  EXPECT_THAT(*same, IsEmpty());

  current.mutable_plan()->mutable_steps(0)->mutable_min_bake()->set_seconds(30);
  (*current.mutable_labels())["x"] = "0";
  const auto changes = CompareDefinitions(current, wanted);
  ASSERT_TRUE(changes.ok());
  ASSERT_THAT(*changes, SizeIs(2));
  EXPECT_EQ((*changes)[0].field, "labels");
  EXPECT_EQ((*changes)[0].difference, "  modified: labels[x]: \"0\" -> \"1\"\n");
  EXPECT_EQ((*changes)[1].field, "plan");
  EXPECT_EQ((*changes)[1].difference, "  modified: plan.steps[0].min_bake.seconds: 30 -> 60\n");
}

TEST(MigrationFileTest, CutoverLimits) {
  const auto slice = [](const std::string& limits) {
    return ParseMigrationFile(absl::StrCat("name: demo/x\nplan:\n  cutover: ", limits,
                                           "\n  steps: [{stage: CUTOVER, weight: 50%}]\n"),
                              "d");
  };
  const MigrationFile file = slice("{slice_weight: 2.5%, max_hold: 1m30s}");
  ASSERT_TRUE(file.ok());
  const v1::Plan& plan = file.documents[0].migration.plan();
  EXPECT_EQ(plan.cutover().slice_weight(), 2500u);
  EXPECT_EQ(plan.cutover().max_hold().seconds(), 90);
  EXPECT_EQ(plan.steps(0).weight(), 50000u);
  const struct {
    const char* limits;
    const char* diagnostic;
  } kTable[] = {
      {"{slice_weight: 101%}", "3:27: error: `slice_weight`: \"101%\" is more than 100 %"},
      {"{slice_weight: 5}",
       "3:27: warning: `slice_weight`: 5 without a \"%\" counts buckets and means 0.005 %; write \"5%\" for "
       "a "
       "percentage"},
      {"{slice_wight: 5%}",
       "3:13: error: unknown field `slice_wight` in plan.cutover: did you mean `slice_weight`?"},
      {"{max_hold: 10}",
       "3:23: error: `max_hold`: \"10\" is not a duration: write a number with a unit, like \"30s\", \"5m\" "
       "or \"1h30m\""},
      {"5%",
       "3:12: error: plan.cutover must be a mapping with the fields slice_weight, max_hold; found a single "
       "value"},
      {"", "3:3: error: `cutover` has no value: give one or remove the line"},
  };
  for (const auto& row : kTable) {
    const MigrationFile wrong = slice(row.limits);
    ASSERT_EQ(wrong.diagnostics.size(), 1u) << row.limits;
    EXPECT_EQ(FormatDiagnostic("f", wrong.diagnostics[0]), absl::StrCat("f:", row.diagnostic));
  }
  const MigrationFile output = ParseMigrationFile("name: demo/x\nreversible: true\n", "d");
  ASSERT_EQ(output.diagnostics.size(), 1u);
  EXPECT_EQ(output.diagnostics[0].message, "`reversible` is set by the server: remove it");
}

}  // namespace
}  // namespace lockstep::cli
