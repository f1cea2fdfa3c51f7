// lockstep gate: what is shown of evidence, and the rehearsals that need no server.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/cli/app.h"
#include "client/cli/output.h"
#include "client/cli/render_gate.h"
#include "core/base/error_info.h"
#include "gmock/gmock.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/util/json_util.h"
#include "gtest/gtest.h"
#include "tests/cli/fake_server.h"
#include "tests/cli/golden.h"
#include "tests/cli/samples.h"

namespace lockstep::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kName[] = "namespaces/demo/migrations/cities";

RenderOptions Look(bool unicode, bool color) {
  return {{.color = color, .unicode = unicode}, SampleNow(), false};
}

TEST(RenderGateTest, Explanation) {
  ExpectGolden("explain.txt", RenderExplanation(kName, SampleExplanation(), Look(true, false)));
  ExpectGolden("explain_ascii.txt", RenderExplanation(kName, SampleExplanation(), Look(false, false)));
  ExpectGolden("explain_color.txt", RenderExplanation(kName, SampleExplanation(), Look(true, true)));
  EXPECT_EQ(RenderExplanation(kName, SampleExplanation(), Look(true, false)).find('\x1b'), std::string::npos);
}

TEST(RenderGateTest, WhatIsMissing) {
  const struct {
    std::function<void(v1::CheckResult&)> set;
    const char* text;
  } kTable[] = {
      {[](auto& c) { c.set_verdict(v1::VERDICT_ADVANCE); }, ""},
      {[](auto& c) { c.set_total(0); }, "needs data"},
      {[](auto&) {}, ""},
      {[](auto& c) { c.set_needed_more(1234); }, "needs 1,234 more clean, ETA unknown"},
      {[](auto& c) {
         c.set_needed_more(5);
         c.mutable_eta()->set_seconds(90);
       },
       "needs 5 more clean, about 1m30s"},
      {[](auto& c) { c.set_will_not_resolve(true); },
       "will not resolve: the rate is about the bound or above it"},
      {[](auto& c) {
         c.set_will_not_resolve(true);
         c.set_budget(.01);
         c.set_lower(.02);
       },
       "will not pass: the rate is above the bound"},
      {[](auto& c) { c.set_rising(true); },
       "rises within the budget: holds until it stops, or somebody decides"},
      {[](auto& c) {
         c.set_metric(v1::METRIC_COVERAGE);
         c.set_total(0);
       },
       ""},
  };
  for (const auto& row : kTable) {
    v1::CheckResult check;
    check.set_metric(v1::METRIC_MISMATCH_RATIO);
    check.set_verdict(v1::VERDICT_HOLD);
    check.set_total(10);
    row.set(check);
    EXPECT_EQ(MissingText(check), row.text);
  }
}

TEST(RenderGateTest, Simulation) {
  domain::MigrationPlan plan;
  plan.steps = {{domain::Stage::kDualWrite}, {domain::Stage::kCanaryRead, 5000}};
  domain::SimulationSummary summary;
  summary.runs = 20;
  summary.until_step = {{20}, {19, absl::Minutes(10), absl::Minutes(11), absl::Minutes(15)}};
  summary.until_end = {1, absl::Hours(2), absl::Hours(2), absl::Hours(2)};
  summary.until_rollback = {17, absl::Minutes(121), absl::Seconds(7290), absl::Minutes(125)};
  summary.reads_until_rollback = 12345;
  summary.errors_until_rollback = 67;
  summary.rollbacks_by_check = {{"errors", 16}, {"a \"b\"", 1}};
  summary.rollback_sentence = "errors: too many.";
  summary.held[1] = {2, "needs\nmore"};
  const SimulationView view{.title = "Bad: 400 reads/s",
                            .plan = &plan,
                            .summary = &summary,
                            .onset = absl::Hours(2),
                            .healthy = false};
  ExpectGolden("simulate.txt", RenderSimulation(view, Look(true, false)));
  ExpectGolden("simulate.json", SimulationJson(view) + "\n");
  google::protobuf::Struct parsed;
  EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(SimulationJson(view), &parsed).ok());
}

class GateTest : public testing::Test {
 protected:
  GateTest() {
    environment_ = {{"LOCKSTEP_ADDRESS", server_.address()}, {"USER", "ann"}, {"HOME", "/nonexistent"}};
  }

  ExitCode Run(std::vector<std::string> words, const std::string& input = "") {
    words.insert(words.begin(), "lockstep");
    std::vector<const char*> argv;
    for (const std::string& word : words) argv.push_back(word.c_str());
    std::istringstream in(input);
    std::ostringstream out;
    std::ostringstream err;
    const ExitCode code = cli::Run(static_cast<int>(argv.size()), argv.data(),
                                   {.in = in, .out = out, .err = err, .environment = environment_});
    out_ = out.str();
    err_ = err.str();
    return code;
  }

  // A file of this test's, removed with it.
  std::string WriteFile(const std::string& name, const std::string& text) {
    const std::string path = absl::StrCat(
        testing::TempDir(), testing::UnitTest::GetInstance()->current_test_info()->name(), "-", name);
    std::ofstream(path) << text;
    files_.push_back(path);
    return path;
  }
  void TearDown() override {
    for (const std::string& file : files_) std::remove(file.c_str());
  }

  FakeServer server_;
  std::map<std::string, std::string> environment_;
  std::string out_;
  std::string err_;
  std::vector<std::string> files_;
};

TEST_F(GateTest, ExplainAsksForTheMoment) {
  server_.script().explanation = SampleExplanation();
  EXPECT_EQ(Run({"gate", "explain", "demo/cities"}), ExitCode::kOk) << err_;
  EXPECT_THAT(out_, StartsWith("demo/cities  step 3, at 2024-05-01 11:59:59 UTC\n"));
  EXPECT_EQ(server_.Last<v1::ExplainGateRequest>().name(), kName);
  EXPECT_FALSE(server_.Last<v1::ExplainGateRequest>().has_time());

  EXPECT_EQ(Run({"gate", "explain", "demo/cities", "--at", "2024-05-01T12:00:00Z", "-o", "json"}),
            ExitCode::kOk);
  EXPECT_EQ(server_.Last<v1::ExplainGateRequest>().time().seconds(), 1714564800);
  EXPECT_THAT(out_, HasSubstr("\"suspectFields\": ["));

  const absl::Time before = absl::Now();
  EXPECT_EQ(Run({"gate", "explain", "demo/cities", "--at", "10m ago", "-o", "yaml"}), ExitCode::kOk);
  const absl::Time asked = absl::FromUnixSeconds(server_.Last<v1::ExplainGateRequest>().time().seconds());
  EXPECT_GE(asked, before - absl::Minutes(10) - absl::Seconds(1));
  EXPECT_LE(asked, absl::Now() - absl::Minutes(10));
  EXPECT_THAT(out_, StartsWith("gate:\n"));
  EXPECT_EQ(Run({"gate", "explain", "demo/cities", "--at=-10m", "-o", "name"}), ExitCode::kOk);
  EXPECT_EQ(out_, absl::StrCat(kName, "\n"));
}

TEST_F(GateTest, NoEvidenceYet) {
  server_.script().status =
      WithErrorInfo(absl::FailedPreconditionError("demo/cities is at OFF: nothing is evidence"),
                    {.reason = "EVIDENCE_NONE"});
  for (const char* command : {"explain", "export"}) {
    EXPECT_EQ(Run({"gate", command, "demo/cities"}), ExitCode::kError);
    EXPECT_THAT(err_,
                StartsWith("error: demo/cities is at OFF: nothing is evidence\nhint: evidence gathers"));
    EXPECT_EQ(out_, "");
  }
}

std::string Bucket(int second, int matches, int mismatches) {
  return absl::StrCat(R"({"bucket":{"startTime":"2024-05-01T12:00:)", second < 10 ? "0" : "", second,
                      R"(Z","stats":{"comparisons":[{"outcome":"COMPARISON_OUTCOME_MATCH","count":")",
                      matches, R"("},{"outcome":"COMPARISON_OUTCOME_MISMATCH","count":")", mismatches,
                      "\"}]}}}\n");
}

constexpr char kHeader[] =
    R"({"header":{"plan":{"steps":[{"stage":"STAGE_DUAL_WRITE"},{"stage":"STAGE_SHADOW_READ","checks":[{"name":)"
    R"("mismatches","metric":"METRIC_MISMATCH_RATIO","budget":0.01}]}]}}})"
    "\n";

// One step at 0 s, then 10 buckets of 500 comparisons.
std::string Log(int mismatches) {
  std::string log = kHeader;
  for (int i = 0; i < 11; ++i) log += Bucket(5 * i, 500 - mismatches, mismatches);
  return log;
}

TEST_F(GateTest, ExportedEvidenceCanBeReplayed) {
  std::istringstream lines(Log(0));
  for (std::string line; std::getline(lines, line);) {
    v1::EvidenceLine message;
    ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(line, &message).ok()) << line;
    server_.script().evidence.push_back(message);
  }
  EXPECT_EQ(Run({"gate", "export", "demo/cities"}), ExitCode::kOk) << err_;
  EXPECT_EQ(std::count(out_.begin(), out_.end(), '\n'), 12);
  EXPECT_THAT(out_, Not(HasSubstr("newArm")));
  const std::string exported = out_;
  EXPECT_EQ(Run({"gate", "replay", "-f", "-"}, exported), ExitCode::kOk) << err_;
}

TEST_F(GateTest, ReplayEnds) {
  const std::string slow_plan =
      WriteFile("slow.yaml",
                "plan:\n  steps:\n    - stage: DUAL_WRITE\n      min_bake: 1h\n    - stage: SHADOW_READ\n");
  const struct {
    const char* name;
    std::string log;
    std::vector<std::string> options;
    ExitCode code;
    const char* said;
  } kTable[] = {
      {"clean", Log(0), {}, ExitCode::kOk, "+ SUCCEEDED at SHADOW_READ"},
      {"bad", Log(50), {}, ExitCode::kRolledBack, "x ROLLED_BACK at DUAL_WRITE"},
      {"too little",
       std::string(kHeader) + Bucket(0, 400, 0) + Bucket(5, 10, 0),
       {},
       ExitCode::kHolds,
       ". RUNNING at SHADOW_READ, HOLD at 2024-05-01 12:00:10 UTC: mismatches: "},
      {"another plan", Log(50), {"--plan", slow_plan}, ExitCode::kHolds, ". RUNNING at DUAL_WRITE, HOLD"},
      {"no header but a plan",
       Bucket(0, 1, 0) + "\n" + Bucket(5, 1, 0),
       {"--plan", slow_plan},
       ExitCode::kHolds,
       ". RUNNING at DUAL_WRITE"},
  };
  for (const auto& row : kTable) {
    SCOPED_TRACE(row.name);
    std::vector<std::string> words = {"gate", "replay", "-f", "-"};
    words.insert(words.end(), row.options.begin(), row.options.end());
    EXPECT_EQ(Run(words, row.log), row.code) << err_;
    EXPECT_THAT(err_, StartsWith(row.said));
  }
  EXPECT_THAT(server_.calls(), IsEmpty());
}

TEST_F(GateTest, ReplayShowsEveryBucket) {
  const std::string file = WriteFile("log.jsonl", Log(50));
  EXPECT_EQ(Run({"gate", "replay", "-f", file}), ExitCode::kRolledBack) << err_;
  ExpectGolden("replay.txt", out_);
  EXPECT_EQ(Run({"gate", "replay", "-f", file, "-o", "jsonl"}), ExitCode::kRolledBack);
  EXPECT_EQ(std::count(out_.begin(), out_.end(), '\n'), 11);
  std::vector<v1::Verdict> verdicts;
  std::vector<std::string> actions;
  std::istringstream lines(out_);
  for (std::string line; std::getline(lines, line);) {
    v1::ExplainGateResponse bucket;
    ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(line, &bucket).ok()) << line;
    verdicts.push_back(bucket.gate().verdict());
    if (bucket.has_last_decision()) actions.push_back(bucket.last_decision().action());
  }
  verdicts.resize(3);
  EXPECT_THAT(verdicts, ElementsAre(v1::VERDICT_ADVANCE, v1::VERDICT_ROLL_BACK, v1::VERDICT_HOLD));
  EXPECT_THAT(actions, ElementsAre("advance", "rollback"));
  const std::string first = out_;
  EXPECT_EQ(Run({"gate", "replay", "-f", file, "-o", "jsonl"}), ExitCode::kRolledBack);
  EXPECT_EQ(out_, first);
}

TEST_F(GateTest, ReplayErrorsNameTheLine) {
  const struct {
    const char* name;
    std::string log;
    const char* error;
  } kTable[] = {
      {"not JSON", std::string(kHeader) + "\nnonsense\n", "error: stdin:3: not a line of an evidence log: "},
      {"unknown field", "{\"headr\":{}}\n", "error: stdin:1: not a line of an evidence log: "},
      {"nothing", "{}\n", "error: stdin:1: line: is not set; a line has one of"},
      {"no header", Bucket(0, 1, 0), "error: stdin:1: the first line has to be the header"},
      {"two headers", absl::StrCat(kHeader, kHeader), "error: stdin:2: a second header"},
      {"order", std::string(kHeader) + Bucket(5, 1, 0) + Bucket(0, 1, 0),
       "error: stdin:3: the bucket at 2024-05-01T12:00:00+00:00 is not later"},
      {"between buckets", std::string(kHeader) + Bucket(3, 1, 0), "error: stdin:2: the bucket starts at"},
      {"bad plan", R"({"header":{"plan":{"steps":[{"stage":"STAGE_SHADOW_READ"}]}}})",
       "error: stdin:1: header.plan.steps[0].stage: "},
      {"empty", "", "error: stdin has no bucket: nothing to judge"},
      {"header only", kHeader, "error: stdin has no bucket: nothing to judge"},
  };
  for (const auto& row : kTable) {
    SCOPED_TRACE(row.name);
    EXPECT_EQ(Run({"gate", "replay", "-f", "-"}, row.log), ExitCode::kError);
    EXPECT_THAT(err_, StartsWith(row.error));
    EXPECT_THAT(err_, HasSubstr("\nhint: "));
  }
}

constexpr char kPlan[] = R"(plan:
  steps:
    - stage: DUAL_WRITE
      min_bake: 10s
    - stage: SHADOW_READ
      min_bake: 10s
      checks: [{name: mismatches, metric: mismatch_ratio, budget: 0.5%}]
    - stage: CANARY_READ
      weight: 10%
      min_bake: 10s
      checks:
        - {name: mismatches, metric: mismatch_ratio, budget: 0.5%}
        - {name: errors, metric: error_ratio, floor: 1%}
)";

TEST_F(GateTest, SimulatesHealthyAndBadTraffic) {
  const std::string plan = WriteFile("plan.yaml", kPlan);
  const std::vector<std::string> base = {"gate", "simulate", "-f", plan, "--rps", "500", "--runs", "3"};
  EXPECT_EQ(Run(base), ExitCode::kOk) << err_;
  EXPECT_THAT(out_, StartsWith("Healthy: 500 reads/s, 50 writes/s, 100 % compared; errors 0.1 % on old"));
  EXPECT_THAT(out_, HasSubstr("rolled back: 0 of 3 runs\n"));
  EXPECT_THAT(out_, Not(HasSubstr("Bad")));
  const std::string healthy = out_;
  std::vector<std::string> bad = base;
  bad.insert(bad.end(), {"--new-error-rate", "5%", "--new-share", "5%"});
  EXPECT_EQ(Run(bad), ExitCode::kOk) << err_;
  EXPECT_THAT(out_, HasSubstr("CANARY_READ 5 %"));
  EXPECT_THAT(out_, HasSubstr("\nBad: 500 reads/s"));
  EXPECT_THAT(out_, HasSubstr("rolled back: 3 of 3 runs after "));
  EXPECT_THAT(out_, HasSubstr("by errors (3)"));
  bad.insert(bad.end(), {"-o", "json"});
  EXPECT_EQ(Run(bad), ExitCode::kOk) << err_;
  google::protobuf::Struct parsed;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(out_, &parsed).ok()) << out_;
  EXPECT_EQ(parsed.fields().at("bad").struct_value().fields().at("runs").number_value(), 3);
  EXPECT_EQ(Run(base), ExitCode::kOk);
  EXPECT_EQ(out_, healthy);
  EXPECT_THAT(server_.calls(), IsEmpty());
}

TEST_F(GateTest, UsageErrors) {
  const std::string plan = WriteFile("plan.yaml", kPlan);
  const std::string shadow = WriteFile("shadow.yaml", "plan: {steps: [{stage: DUAL_WRITE}]}\n");
  const struct {
    std::vector<std::string> words;
    const char* error;
  } kTable[] = {
      {{"gate"}, "error: lockstep gate needs a subcommand: explain, export, replay, simulate"},
      {{"gate", "explain", "a", "--at", "soon"}, "error: --at: \"soon\" is not a time"},
      {{"gate", "replay", "-f", "/nonexistent"}, "error: /nonexistent can't be read"},
      {{"gate", "replay", "-f", "-", "--plan", "-"}, "error: -f and --plan can't both be stdin"},
      {{"gate", "replay", "-f", "-", "-o", "yaml"}, "error: gate replay prints -o table, wide or jsonl"},
      {{"gate", "replay", "-f", "-", "--plan", "/nonexistent"}, "error: /nonexistent can't be read"},
      {{"gate", "simulate", "-f", plan, "--rps", "0"}, "error: --rps must be above 0"},
      {{"gate", "simulate", "-f", plan, "--rps", "-1"}, "error: --rps must be above 0"},
      {{"gate", "simulate", "-f", plan}, "error: --rps is required"},
      {{"gate", "simulate", "-f", plan, "--rps", "9", "-o", "name"},
       "error: gate simulate prints -o table or json"},
      {{"gate", "simulate", "-f", plan, "--rps", "9", "--error-rate", "much"},
       "error: --error-rate: \"much\" is not"},
      {{"gate", "simulate", "-f", plan, "--rps", "9", "--error-rate", "200%"}, "error: "},
      {{"gate", "simulate", "-f", plan, "--rps", "9", "--onset", "2"},
       "error: --onset: \"2\" is not a duration"},
      {{"gate", "simulate", "-f", plan, "--rps", "9", "--new-share", "0%"},
       "error: --new-share: 0 serves no read"},
      {{"gate", "simulate", "-f", shadow, "--rps", "9", "--new-share", "5%"},
       "error: --new-share: the plan has no CANARY_READ step"},
      {{"gate", "simulate", "-f", plan, "--rps", "9", "--runs", "0"}, "error: a simulation of 0 runs"},
      {{"gate", "simulate", "-f", plan, "--rps", "9", "--new-latency-factor", "0"}, "error: "},
      {{"migration", "lint", "-f", plan, "--rps", "-5"}, "error: -5 is not a number per second"},
  };
  for (const auto& row : kTable) {
    EXPECT_EQ(Run(row.words), ExitCode::kUsage) << row.error;
    EXPECT_THAT(err_, StartsWith(row.error));
    EXPECT_EQ(out_, "");
  }
  EXPECT_EQ(Run({"gate", "simulate", "-f", "-", "--rps", "9"}, "plan: {steps: [{stage: SHADOW_READ}]}\n"),
            ExitCode::kError);
  EXPECT_THAT(err_, StartsWith("stdin:1:24: error: plan.steps[0].stage: "));
  EXPECT_THAT(err_, HasSubstr("error: stdin does not define a plan that could run\n"));
  EXPECT_THAT(server_.calls(), IsEmpty());
}

TEST_F(GateTest, LintKnowsTheTraffic) {
  const std::string file = absl::StrCat("name: demo/x\n", kPlan);
  EXPECT_EQ(Run({"migration", "lint", "-f", "-", "--comparisons-per-second", "4"}, file), ExitCode::kOk);
  EXPECT_THAT(err_, HasSubstr("stdin:8:67: warning: plan.steps[1].checks[0].budget: needs 1,0"));
  EXPECT_THAT(err_, HasSubstr(" clean comparisons, which at 4/s take 4m"));
}

// What docs/gate.md shows is what the command reads.
TEST_F(GateTest, TheManualIsRight) {
  const std::string page = ReadSourceFile("docs/gate.md");
  const size_t begin = page.find("```json\n") + 8;
  const std::string log = page.substr(begin, page.find("```", begin) - begin);
  EXPECT_EQ(Run({"gate", "replay", "-f", "-"}, log), ExitCode::kHolds) << err_;
  const std::string plan = ReadSourceFile("docs/gate-example/plan.yaml");
  EXPECT_EQ(Run({"migration", "lint", "-f", "-", "--rps", "400", "--comparisons-per-second", "400"},
                absl::StrCat("name: demo/cities\n", plan)),
            ExitCode::kOk)
      << err_;
  EXPECT_THAT(err_, HasSubstr("0 errors, 0 warnings"));
}

TEST_F(GateTest, HelpHasAnExample) {
  for (const char* command : {"explain", "export", "replay", "simulate"}) {
    EXPECT_EQ(Run({"gate", command, "--help"}), ExitCode::kOk);
    EXPECT_THAT(out_, HasSubstr(absl::StrCat("Example: lockstep gate ", command)));
  }
}

}  // namespace
}  // namespace lockstep::cli
