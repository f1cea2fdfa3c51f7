// instance list and evict, drill rollback, and the step without a way back.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/error_info.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cli/run_testing.h"

namespace lockstep::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

class FleetTest : public RunTest {
 protected:
  FleetTest() {
    server_.script().instances = SampleFleet();
    *server_.script().evicted.mutable_migration() = CutoverMigration();
    *server_.script().evicted.mutable_instance() = SampleFleet()[2];
    server_.script().evicted.add_risks("it may still write keys from 10 % to 15 % to old first");
    *server_.script().drill.mutable_migration() = CutoverMigration();  // epoch 31
    server_.script().drill.set_enrolled_instances(4);
  }

  // The fleet with everybody at the drill's epoch, but for those after the first `following`.
  static std::vector<v1::Instance> Fleet(size_t following) {
    std::vector<v1::Instance> fleet = SampleFleet();
    for (size_t i = 0; i < fleet.size(); ++i) {
      fleet[i].set_accepted_epoch(i < following ? 31 : 30);
      fleet[i].mutable_accept_delay()->set_seconds(0);
      fleet[i].mutable_accept_delay()->set_nanos(static_cast<int>(i + 1) * 1000000);
    }
    return fleet;
  }
};

TEST_F(FleetTest, ListFormats) {
  EXPECT_EQ(Run({"instance", "list", "demo/cities"}), ExitCode::kOk);
  EXPECT_THAT(out_, StartsWith("INSTANCE"));
  EXPECT_THAT(out_, HasSubstr("3 operations, oldest 12"));
  EXPECT_EQ(Run({"instance", "list", "demo/cities", "-o", "wide"}), ExitCode::kOk);
  EXPECT_THAT(out_, HasSubstr("4.2 ms"));
  EXPECT_EQ(Run({"instance", "list", "demo/cities", "-o", "json"}), ExitCode::kOk);
  EXPECT_THAT(out_, HasSubstr("\"lease\": \"LEASE_STATE_EXPIRED\""));
  EXPECT_EQ(Run({"instance", "list", "demo/cities", "-o", "yaml"}), ExitCode::kOk);
  EXPECT_THAT(out_, HasSubstr("leasePolicy: LEASE_POLICY_FAIL_WRITES"));
  EXPECT_EQ(Run({"instance", "list", "demo/cities", "-o", "name"}), ExitCode::kOk);
  EXPECT_EQ(out_, "cities-0\ncities-1\ncities-2\ncities-3\n");
  server_.script().instances.clear();
  EXPECT_EQ(Run({"instance", "list", "demo/cities"}), ExitCode::kOk);
  EXPECT_EQ(out_, "");
  EXPECT_THAT(err_, HasSubstr("no instance is enrolled"));
}

TEST_F(FleetTest, EvictSaysWhatIsRiskedBeforeItAsks) {
  terminal_ = true;
  EXPECT_EQ(
      Run({"instance", "evict", "demo/cities", "cities-2", "--reason", "host is gone", "--if-match", "9"},
          "cities-2\n"),
      ExitCode::kOk)
      << err_;
  EXPECT_THAT(server_.calls(), ElementsAre("CheckEviction", "EvictInstance"));
  const auto request = server_.Last<v1::EvictInstanceRequest>();
  EXPECT_EQ(request.name(), kMigrationName);
  EXPECT_EQ(request.instance_id(), "cities-2");
  EXPECT_EQ(request.change().reason(), "host is gone");
  EXPECT_EQ(request.change().etag(), "9");
  EXPECT_FALSE(request.change().request_id().empty());
  const size_t risk = err_.find("it may still write keys from 10 % to 15 % to old first");
  const size_t prompt = err_.find("Type cities-2 to go on: ");
  ASSERT_NE(risk, std::string::npos);
  ASSERT_NE(prompt, std::string::npos);
  EXPECT_LT(risk, prompt);
  EXPECT_THAT(err_, HasSubstr("evicted cities-2 from demo/cities"));
  EXPECT_THAT(out_, HasSubstr("cities-2"));
}

TEST_F(FleetTest, EvictOnlyWhenConfirmed) {
  const struct {
    std::vector<const char*> more;
    bool terminal;
    const char* input;
    ExitCode code;
    const char* says;
    bool evicts;
  } kTable[] = {
      {{}, true, "demo/cities\n", ExitCode::kError, "is not cities-2: nothing was changed", false},
      {{}, true, "", ExitCode::kError, "nothing was changed", false},
      {{}, false, "cities-2\n", ExitCode::kUsage, "there is no terminal to ask on", false},
      {{"--no-input"}, true, "cities-2\n", ExitCode::kUsage, "pass --yes to confirm", false},
      {{"--yes"}, false, "", ExitCode::kOk, "it may still write keys", true},
      {{"--yes", "--no-input"}, false, "", ExitCode::kOk, "evicted cities-2", true},
      {{"--dry-run"}, false, "", ExitCode::kOk, "would be granted; nothing was changed", false},
  };
  for (const auto& row : kTable) {
    terminal_ = row.terminal;
    const size_t calls = server_.calls().size();
    std::vector<const char*> words = {"instance", "evict", "demo/cities", "cities-2", "--reason", "gone"};
    words.insert(words.end(), row.more.begin(), row.more.end());
    EXPECT_EQ(Run(words, row.input), row.code) << err_;
    EXPECT_THAT(err_, HasSubstr(row.says));
    EXPECT_EQ(server_.calls().size() - calls, row.evicts ? 2u : 1u) << "the check always comes first";
    EXPECT_EQ(server_.calls().back(), row.evicts ? "EvictInstance" : "CheckEviction");
  }
}

TEST_F(FleetTest, EvictOfWhatRisksNothingAndOfWhatIsNotThere) {
  server_.script().evicted.clear_risks();
  EXPECT_EQ(Run({"instance", "evict", "demo/cities", "cities-2", "--reason", "r", "--yes", "-o", "json"}),
            ExitCode::kOk);
  EXPECT_THAT(err_, HasSubstr("nothing is at risk at present if cities-2 is still there"));
  EXPECT_THAT(out_, HasSubstr("\"instanceId\": \"cities-2\""));
  EXPECT_THAT(out_, HasSubstr("\"risks\": []"));
  server_.script().status = absl::NotFoundError("no instance cities-9 is enrolled for demo/cities");
  EXPECT_EQ(Run({"instance", "evict", "demo/cities", "cities-9", "--reason", "r", "--yes"}),
            ExitCode::kError);
  EXPECT_THAT(err_, HasSubstr("error: no instance cities-9 is enrolled"));
  EXPECT_THAT(err_, HasSubstr("hint: `lockstep instance list demo/cities` shows who is enrolled"));
  EXPECT_EQ(server_.calls().back(), "CheckEviction");
}

TEST_F(FleetTest, DrillWaitsForTheLastOne) {
  server_.script().instances_before = {Fleet(1), Fleet(3)};
  server_.script().instances = Fleet(4);
  EXPECT_EQ(Run({"drill", "rollback", "demo/cities", "--reason", "monthly"}), ExitCode::kOk) << err_;
  EXPECT_EQ(out_,
            "+ FOLLOWED  demo/cities: 4 of 4 instances act on epoch 31\n"
            "  p50  2.0 ms\n  p99  4.0 ms\n  max  4.0 ms\n");
  EXPECT_EQ(server_.Last<v1::DrillRollbackRequest>().change().reason(), "monthly");
  EXPECT_EQ(server_.calls().front(), "DrillRollback");
}

TEST_F(FleetTest, DrillNamesWhoIsMissing) {
  server_.script().instances = Fleet(3);
  EXPECT_EQ(Run({"drill", "rollback", "demo/cities", "--timeout", "10ms"}), ExitCode::kError);
  EXPECT_THAT(out_, HasSubstr("MISSING  demo/cities: 3 of 4 instances act on epoch 31"));
  EXPECT_THAT(out_, HasSubstr("cities-3"));
  EXPECT_THAT(out_, Not(HasSubstr("cities-1")));
  EXPECT_THAT(err_,
              StartsWith("error: 1 of 4 instances did not follow within 10ms\nhint: a rollback would not"));
  EXPECT_EQ(Run({"drill", "rollback", "demo/cities", "--timeout", "0", "-o", "jsonl"}), ExitCode::kError);
  for (const char* part : {"\"epoch\":31", "\"enrolled\":4", "\"following\":3", "\"p50Ms\":2", "\"maxMs\":3",
                           "\"missing\":[\"cities-3\"]"}) {
    EXPECT_THAT(out_, HasSubstr(part));
  }
  // Nobody is enrolled, so nobody is missing, and nothing was measured.
  server_.script().instances.clear();
  EXPECT_EQ(Run({"drill", "rollback", "demo/cities", "-o", "json"}), ExitCode::kOk);
  EXPECT_THAT(out_, HasSubstr("\"p50Ms\": null"));
}

TEST_F(FleetTest, DrillIsRefusedOrOnlyChecked) {
  EXPECT_EQ(Run({"drill", "rollback", "demo/cities", "--dry-run"}), ExitCode::kOk);
  EXPECT_TRUE(server_.Last<v1::DrillRollbackRequest>().change().validate_only());
  EXPECT_THAT(err_, HasSubstr("nothing was published"));
  server_.script().status =
      WithErrorInfo(absl::FailedPreconditionError("a state waits"), {.reason = "FENCE_WAITS"});
  EXPECT_EQ(Run({"drill", "rollback", "demo/cities"}), ExitCode::kHolds);
  EXPECT_THAT(server_.calls(), ElementsAre("DrillRollback", "DrillRollback"));
}

TEST_F(FleetTest, ThePointOfNoReturnIsAskedFor) {
  server_.script().point_of_no_return = true;
  server_.script().changed = NewOnlyMigration();
  terminal_ = true;
  EXPECT_EQ(Run({"advance", "demo/cities"}, "demo/cities\n"), ExitCode::kOk) << err_;
  EXPECT_THAT(err_, HasSubstr("ends the way back: from NEW_ONLY on the old side gets no more writes"));
  EXPECT_THAT(err_, HasSubstr("Type demo/cities to go on: "));
  EXPECT_THAT(server_.calls(), ElementsAre("AdvanceMigration", "AdvanceMigration"));
  EXPECT_TRUE(server_.Last<v1::AdvanceMigrationRequest>().accept_no_way_back());
  EXPECT_EQ(Run({"advance", "demo/cities"}, "yes\n"), ExitCode::kError);
  EXPECT_FALSE(server_.Last<v1::AdvanceMigrationRequest>().accept_no_way_back());
  EXPECT_THAT(err_, HasSubstr("\"yes\" is not demo/cities: nothing was changed"));
}

TEST_F(FleetTest, ThePointOfNoReturnTakesItsOwnFlag) {
  server_.script().point_of_no_return = true;
  EXPECT_EQ(Run({"advance", "demo/cities", "--accept-no-way-back"}), ExitCode::kOk);
  EXPECT_THAT(server_.calls(), ElementsAre("AdvanceMigration"));
  EXPECT_TRUE(server_.Last<v1::AdvanceMigrationRequest>().accept_no_way_back());
  // --yes confirms what is asked everywhere, but not this.
  EXPECT_EQ(Run({"advance", "demo/cities", "--yes"}), ExitCode::kUsage);
  EXPECT_THAT(err_, HasSubstr("pass --accept-no-way-back to confirm"));
  EXPECT_FALSE(server_.Last<v1::AdvanceMigrationRequest>().accept_no_way_back());
  EXPECT_EQ(Run({"advance", "demo/cities", "--dry-run"}), ExitCode::kError);
  EXPECT_THAT(err_, HasSubstr("hint: `lockstep advance NAME` asks for it; --accept-no-way-back"));
}

TEST_F(FleetTest, ARollbackThatAcceptsDifferencesSaysWhatIsAtRisk) {
  EXPECT_EQ(Run({"rollback", "demo/cities", "--accept-differences"}), ExitCode::kUsage);
  EXPECT_THAT(err_, HasSubstr("needs --reason"));
  v1::Migration stopped = NewOnlyMigration();
  stopped.set_differing_records(2);
  server_.script().migrations[stopped.name()] = stopped;
  EXPECT_EQ(Run({"rollback", "demo/cities", "--accept-differences", "--reason", "old is right"}),
            ExitCode::kOk)
      << err_;
  EXPECT_THAT(err_, HasSubstr("at risk: 2 records, at least, differ"));
  EXPECT_THAT(server_.calls(), ElementsAre("GetMigration", "RollbackMigration"));
  EXPECT_TRUE(server_.Last<v1::RollbackMigrationRequest>().accept_differences());
  EXPECT_EQ(server_.Last<v1::RollbackMigrationRequest>().change().reason(), "old is right");
  EXPECT_EQ(Run({"rollback", "demo/cities"}), ExitCode::kOk);
  EXPECT_FALSE(server_.Last<v1::RollbackMigrationRequest>().accept_differences());
}

}  // namespace
}  // namespace lockstep::cli
