#include "core/wire/evidence_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/domain/log_math.h"
#include "google/protobuf/text_format.h"
#include "google/protobuf/util/json_util.h"
#include "tests/wire/random_values.h"
#include "tests/wire/violation_matchers.h"

namespace lockstep::wire {
namespace {

using ::testing::UnorderedElementsAre;

v1::EvidenceLine Line(const std::string& text) {
  v1::EvidenceLine out;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &out)) << text;
  return out;
}

v1::EvidenceLine Header() {
  return Line(R"pb(
    header {
      migration: "namespaces/shop/migrations/orders"
      plan {
        steps {
          stage: STAGE_DUAL_WRITE
          min_bake { seconds: 60 }
        }
        steps {
          stage: STAGE_SHADOW_READ
          checks { name: "city" metric: METRIC_MISMATCH_RATIO budget: 0.001 field: "address.city" }
          deadline { seconds: 7200 }
        }
        expected_services { service: "orders" min_instances: 2 }
      }
      declared_fields: 7
      evidence_restarts: 2
      start_time { seconds: 1800000000 }
    })pb");
}

v1::EvidenceLine Step() { return Line("step { step: 1 start_time { seconds: 1800000005 } }"); }

v1::EvidenceLine Bucket() {
  return Line(R"pb(bucket {
                     start_time { seconds: 1800000005 }
                     stats {
                       old_arm { requests: 3 }
                       comparisons { outcome: COMPARISON_OUTCOME_MATCH count: 3 }
                     }
                   })pb");
}

TEST(EvidenceLogTest, ReadsEachKindOfLine) {
  const auto header = EvidenceLineFromProto(Header());
  ASSERT_TRUE(header.ok()) << header.status();
  const auto& read = std::get<domain::EvidenceHeader>(*header);
  EXPECT_EQ(read.migration, "namespaces/shop/migrations/orders");
  ASSERT_EQ(read.plan.steps.size(), 2u);
  EXPECT_EQ(read.plan.steps[1].deadline, absl::Hours(2));
  EXPECT_EQ(read.plan.alpha_rollback, 0.01);
  EXPECT_EQ(read.epoch,
            (domain::EvidenceEpoch{
                .restarts = 2, .declared_fields = 7, .start = absl::FromUnixSeconds(1800000000)}));

  const auto step = EvidenceLineFromProto(Step());
  ASSERT_TRUE(step.ok()) << step.status();
  EXPECT_EQ(std::get<domain::EvidenceStep>(*step).step, 1);
  EXPECT_EQ(std::get<domain::EvidenceStep>(*step).start, absl::FromUnixSeconds(1800000005));

  const auto bucket = EvidenceLineFromProto(Bucket());
  ASSERT_TRUE(bucket.ok()) << bucket.status();
  EXPECT_EQ(std::get<domain::EvidenceBucket>(*bucket).start, absl::FromUnixSeconds(1800000005));
  EXPECT_EQ(std::get<domain::EvidenceBucket>(*bucket).stats.comparable(), 3u);
}

TEST(EvidenceLogTest, MadeUpLogNeedsNeitherNameNorStart) {
  v1::EvidenceLine line = Header();
  line.mutable_header()->clear_migration();
  line.mutable_header()->clear_start_time();
  line.mutable_header()->clear_declared_fields();
  line.mutable_header()->clear_evidence_restarts();
  const auto header = EvidenceLineFromProto(line);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(std::get<domain::EvidenceHeader>(*header).epoch, domain::EvidenceEpoch());
  EXPECT_FALSE(ToProto(*header).header().has_start_time());
}

void ExpectSameAgain(const v1::EvidenceLine& line) {
  const auto value = EvidenceLineFromProto(line);
  ASSERT_TRUE(value.ok()) << value.status();
  const v1::EvidenceLine shown = ToProto(*value);
  // As the file has it: one JSON object.
  std::string json;
  ASSERT_TRUE(google::protobuf::util::MessageToJsonString(shown, &json).ok());
  EXPECT_EQ(json.find('\n'), std::string::npos);
  v1::EvidenceLine parsed;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(json, &parsed).ok());
  EXPECT_EQ(Difference(parsed, shown), "");
  const auto again = EvidenceLineFromProto(parsed);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(Difference(ToProto(*again), shown), "");
}

TEST(EvidenceLogTest, RoundTrips) {
  ExpectSameAgain(Header());
  ExpectSameAgain(Step());
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    RandomValues random(seed, RandomValues::Presence::kSometimes);
    domain::EvidenceBucket bucket;
    bucket.start = absl::FromUnixSeconds(5 * static_cast<int64_t>(random.prng().Below(1'000'000'000)));
    bucket.stats = random.WindowStats();
    const v1::EvidenceLine line = ToProto(bucket);
    ExpectSameAgain(line);
    const auto back = EvidenceLineFromProto(line);
    ASSERT_TRUE(back.ok()) << back.status();
    ASSERT_EQ(std::get<domain::EvidenceBucket>(*back).stats, bucket.stats);
    ASSERT_EQ(std::get<domain::EvidenceBucket>(*back).start, bucket.start);
  }
}

TEST(EvidenceLogTest, EveryFieldIsWritten) {
  RandomValues random(1, RandomValues::Presence::kEverything);
  const v1::EvidenceLine bucket =
      ToProto(domain::EvidenceBucket{.start = absl::FromUnixSeconds(5), .stats = random.WindowStats()});
  EXPECT_THAT(UnsetFields(bucket.bucket()), UnorderedElementsAre("stats.compared_subjects.dense_registers",
                                                                 "stats.new_reads_subjects.dense_registers",
                                                                 "stats.old_reads_subjects.dense_registers"));
  const v1::EvidenceLine header = ToProto(
      domain::EvidenceHeader{.migration = "m",
                             .plan = random.Migration().plan,
                             .epoch = {.restarts = 1, .declared_fields = 2, .start = absl::UnixEpoch()}});
  EXPECT_TRUE(UnsetFields(header.header()).empty());
  const v1::EvidenceLine step = ToProto(domain::EvidenceStep{.step = 3, .start = absl::UnixEpoch()});
  EXPECT_TRUE(UnsetFields(step.step()).empty());
}

TEST(EvidenceLogTest, RefusesEachBadField) {
  const struct {
    const char* field;
    const char* description;
    v1::EvidenceLine line;
    std::function<void(v1::EvidenceLine&)> spoil;
  } kCases[] = {
      {"line", "one of \"header\", \"step\" and \"bucket\"", v1::EvidenceLine(), [](auto&) {}},
      {"header.migration", "not a full name", Header(),
       [](auto& l) { l.mutable_header()->set_migration("shop/orders"); }},
      {"header.plan.steps", "is empty", Header(), [](auto& l) { l.mutable_header()->clear_plan(); }},
      {"header.plan.steps[0].stage", "not set", Header(),
       [](auto& l) { l.mutable_header()->mutable_plan()->mutable_steps(0)->clear_stage(); }},
      {"header.plan.steps[1].checks[0].budget", "0", Header(),
       [](auto& l) {
         l.mutable_header()->mutable_plan()->mutable_steps(1)->mutable_checks(0)->clear_budget();
       }},
      {"header.plan.steps[1].checks[0].name", "other characters", Header(),
       [](auto& l) {
         l.mutable_header()->mutable_plan()->mutable_steps(1)->mutable_checks(0)->set_name("A b");
       }},
      {"header.plan.steps[1].deadline", "negative", Header(),
       [](auto& l) {
         l.mutable_header()->mutable_plan()->mutable_steps(1)->mutable_deadline()->set_seconds(-1);
       }},
      {"header.plan.expected_services[0].service", "is empty", Header(),
       [](auto& l) { l.mutable_header()->mutable_plan()->mutable_expected_services(0)->clear_service(); }},
      {"header.start_time", "nanos", Header(),
       [](auto& l) { l.mutable_header()->mutable_start_time()->set_nanos(-1); }},
      {"step.step", "64 is no index into plan.steps", Step(),
       [](auto& l) { l.mutable_step()->set_step(64); }},
      {"step.step", "is no index", Step(),
       [](auto& l) { l.mutable_step()->set_step(std::numeric_limits<uint32_t>::max()); }},
      {"step.start_time", "not set", Step(), [](auto& l) { l.mutable_step()->clear_start_time(); }},
      {"step.start_time", "year", Step(),
       [](auto& l) { l.mutable_step()->mutable_start_time()->set_seconds(int64_t{1} << 60); }},
      {"bucket.start_time", "not set", Bucket(), [](auto& l) { l.mutable_bucket()->clear_start_time(); }},
      {"bucket.start_time", "nanos", Bucket(),
       [](auto& l) { l.mutable_bucket()->mutable_start_time()->set_nanos(-1); }},
      {"bucket.stats.old_arm.requests", "largest", Bucket(),
       [](auto& l) {
         l.mutable_bucket()->mutable_stats()->mutable_old_arm()->set_requests(domain::kMaxCount + 1);
       }},
      {"bucket.stats.mismatched_subjects.slots", "64", Bucket(),
       [](auto& l) { l.mutable_bucket()->mutable_stats()->mutable_mismatched_subjects()->add_slots(1); }},
      {"bucket.stats", "errors", Bucket(),
       [](auto& l) { l.mutable_bucket()->mutable_stats()->mutable_old_arm()->set_errors(4); }},
  };
  for (const auto& test : kCases) {
    SCOPED_TRACE(absl::StrCat(test.field, ": ", test.description));
    v1::EvidenceLine line = test.line;
    test.spoil(line);
    EXPECT_THAT(EvidenceLineFromProto(line).status(), Refuses(test.field, test.description));
  }
}

TEST(EvidenceLogTest, ReportsEverythingAtOnce) {
  v1::EvidenceLine line = Header();
  line.mutable_header()->set_migration("orders");
  line.mutable_header()->mutable_plan()->set_alpha_advance(0.6);
  line.mutable_header()->mutable_start_time()->set_nanos(-1);
  EXPECT_THAT(ViolatedFields(EvidenceLineFromProto(line).status()),
              UnorderedElementsAre("header.migration", "header.plan.alpha_advance", "header.start_time"));
}

}  // namespace
}  // namespace lockstep::wire
