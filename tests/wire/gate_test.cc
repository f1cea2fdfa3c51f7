#include "core/wire/gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "tests/wire/random_values.h"
#include "tests/wire/violation_matchers.h"

namespace lockstep::wire {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

TEST(GateResultTest, EveryFieldBothWays) {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    for (const auto presence : {RandomValues::Presence::kEverything, RandomValues::Presence::kSometimes}) {
      SCOPED_TRACE(testing::Message() << "seed " << seed);
      RandomValues random(seed, presence);
      const v1::GateResult message = ToProto(random.GateResult(), kNow);
      if (presence == RandomValues::Presence::kEverything) {
        ASSERT_THAT(UnsetFields(message), ElementsAre());
      }
      Violations violations;
      const domain::GateResult back = ReadGateResult(message, FieldPath(), violations);
      ASSERT_TRUE(violations.empty()) << violations.ToStatus();
      ASSERT_EQ(Difference(ToProto(back, kNow), message), "");
    }
  }
}

TEST(GateResultTest, RecordsOfVersionsWithoutDispersion) {
  v1::GateResult message;
  message.set_verdict(v1::VERDICT_HOLD);
  message.set_action(v1::BREACH_ACTION_ROLLBACK);
  v1::CheckResult* check = message.add_checks();
  check->set_metric(v1::METRIC_ERROR_RATIO);
  check->set_verdict(v1::VERDICT_HOLD);
  Violations violations;
  const domain::GateResult result = ReadGateResult(message, FieldPath(), violations);
  EXPECT_TRUE(violations.empty()) << violations.ToStatus();
  EXPECT_EQ(result.checks[0].dispersion, 1);
  EXPECT_FALSE(result.checks[0].onset.has_value());
  EXPECT_FALSE(result.checks[0].eta.has_value());
}

TEST(GateResultTest, SuspectFieldsThatAreNotUtf8AreRepaired) {
  domain::GateResult result;
  result.suspect_fields = {"ci\xffty"};
  v1::GateResult parsed;
  ASSERT_TRUE(parsed.ParseFromString(ToProto(result, kNow).SerializeAsString()));
  EXPECT_EQ(parsed.suspect_fields(0), "ci\xef\xbf\xbdty");
}

TEST(GateResultTest, RefusesEachBadField) {
  const struct {
    const char* field;
    const char* description;
    std::function<void(v1::GateResult&)> spoil;
  } kCases[] = {
      {"gate.verdict", "not set", [](auto& r) { r.clear_verdict(); }},
      {"gate.action", "9 is not a BreachAction",
       [](auto& r) { r.set_action(static_cast<v1::BreachAction>(9)); }},
      {"gate.bake_remaining", "nanos", [](auto& r) { r.mutable_bake_remaining()->set_nanos(2'000'000'000); }},
      {"gate.checks[0].metric", "10 is not a Metric",
       [](auto& r) { r.mutable_checks(0)->set_metric(static_cast<v1::Metric>(10)); }},
      {"gate.checks[0].onset_time", "year",
       [](auto& r) { r.mutable_checks(0)->mutable_onset_time()->set_seconds(int64_t{1} << 60); }},
      {"gate.checks[0].eta", "10000 years",
       [](auto& r) { r.mutable_checks(0)->mutable_eta()->set_seconds(int64_t{1} << 60); }},
  };
  RandomValues random(1, RandomValues::Presence::kEverything);
  const v1::GateResult good = ToProto(random.GateResult(), kNow);
  for (const auto& test : kCases) {
    v1::GateResult message = good;
    test.spoil(message);
    Violations violations;
    const FieldPath root;
    ReadGateResult(message, root / "gate", violations);
    EXPECT_THAT(violations.ToStatus(), Refuses(test.field, test.description));
  }
}

v1::ExplainGateRequest ExplainRequest() {
  v1::ExplainGateRequest out;
  out.set_name("namespaces/shop/migrations/orders");
  return out;
}

TEST(ExplainGateTest, NowOrThen) {
  v1::ExplainGateRequest request = ExplainRequest();
  auto read = ExplainGateFromProto(request, kNow);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->name, "namespaces/shop/migrations/orders");
  EXPECT_EQ(read->time, std::nullopt);
  request.mutable_time()->set_seconds(absl::ToUnixSeconds(kNow));
  read = ExplainGateFromProto(request, kNow);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->time, kNow) << "now is not the future";
}

TEST(ExplainGateTest, ReportsEverythingAtOnce) {
  v1::ExplainGateRequest request = ExplainRequest();
  request.mutable_time()->set_seconds(absl::ToUnixSeconds(kNow));
  request.mutable_time()->set_nanos(1);
  EXPECT_THAT(ExplainGateFromProto(request, kNow).status(), Refuses("time", "leave it out to ask for now"));
  request.set_name("shop/orders");
  request.mutable_time()->set_nanos(-1);
  EXPECT_THAT(ExplainGateFromProto(request, kNow).status(), Refuses("time", "nanos"));
  EXPECT_THAT(ViolatedFields(ExplainGateFromProto(request, kNow).status()), ElementsAre("name", "time"));
}

TEST(ExportEvidenceTest, NeedsAFullName) {
  v1::ExportEvidenceRequest request;
  request.set_name("namespaces/shop/migrations/orders");
  EXPECT_TRUE(ValidateExportEvidenceRequest(request).ok());
  for (const char* name : {"", "shop/orders", "namespaces/-/migrations/orders"}) {
    request.set_name(name);
    const absl::Status status = ValidateExportEvidenceRequest(request);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(std::string(status.message()), HasSubstr("name")) << name;
  }
}

}  // namespace
}  // namespace lockstep::wire
