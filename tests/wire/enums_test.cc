#include "core/wire/enums.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockstep::wire {
namespace {

using ::testing::HasSubstr;

// Every value of the API's enum, known or not, and UNSPECIFIED, which stands for `unspecified` (nullopt: for
// nothing).
template <typename ProtoEnum, typename DomainEnum>
void ExpectExhaustive(std::optional<DomainEnum> unspecified, absl::string_view name_prefix) {
  const google::protobuf::EnumDescriptor* descriptor = google::protobuf::GetEnumDescriptor<ProtoEnum>();
  EXPECT_EQ(EnumFromProto(static_cast<ProtoEnum>(0)), unspecified);
  for (int i = 0; i < descriptor->value_count(); ++i) {
    const auto value = static_cast<ProtoEnum>(descriptor->value(i)->number());
    EXPECT_THAT(descriptor->value(i)->name(), testing::StartsWith(std::string(name_prefix)));
    if (value == 0) continue;
    const std::optional<DomainEnum> known = EnumFromProto(value);
    ASSERT_TRUE(known.has_value()) << descriptor->value(i)->name();
    EXPECT_EQ(ToProto(*known), value);
  }
  for (const int unknown : {-1, descriptor->value_count(), 99, 1 << 30}) {
    EXPECT_EQ(EnumFromProto(static_cast<ProtoEnum>(unknown)), std::nullopt) << unknown;
    Violations violations;
    const FieldPath root;
    EXPECT_EQ(ReadEnum(static_cast<ProtoEnum>(unknown), root / "some_field", violations), DomainEnum{});
    ASSERT_EQ(violations.list().size(), 1u);
    EXPECT_EQ(violations.list()[0].field, "some_field");
    EXPECT_THAT(violations.list()[0].description, HasSubstr("is not a"));
  }
}

TEST(EnumsTest, EveryValueBothWays) {
  ExpectExhaustive<v1::Stage, domain::Stage>(std::nullopt, "STAGE_");
  ExpectExhaustive<v1::Side, domain::Side>(std::nullopt, "SIDE_");
  ExpectExhaustive<v1::Metric, domain::Metric>(std::nullopt, "METRIC_");
  ExpectExhaustive<v1::BreachAction, domain::BreachAction>(domain::BreachAction::kRollback, "BREACH_ACTION_");
  ExpectExhaustive<v1::ListOrder, domain::ListOrder>(domain::ListOrder::kOrdered, "LIST_ORDER_");
  ExpectExhaustive<v1::RunState, domain::RunState>(std::nullopt, "RUN_STATE_");
  ExpectExhaustive<v1::Verdict, domain::Verdict>(std::nullopt, "VERDICT_");
  ExpectExhaustive<v1::WriteMode, domain::WriteMode>(std::nullopt, "WRITE_MODE_");
  ExpectExhaustive<v1::DecisionReason, domain::DecisionReason>(std::nullopt, "DECISION_REASON_");
  ExpectExhaustive<v1::ComparisonOutcome, domain::ComparisonOutcome>(std::nullopt, "COMPARISON_OUTCOME_");
  ExpectExhaustive<v1::MismatchKind, domain::MismatchKind>(std::nullopt, "MISMATCH_KIND_");
  ExpectExhaustive<v1::LeasePolicy, domain::LeasePolicy>(domain::LeasePolicy::kKeepServing, "LEASE_POLICY_");
}

// The names people see in both worlds are the same words.
TEST(EnumsTest, NamesAgree) {
  for (const domain::Stage stage : domain::kAllStages) {
    EXPECT_EQ(v1::Stage_Name(ToProto(stage)), absl::StrCat("STAGE_", domain::StageName(stage)));
  }
  for (int i = 0; i <= static_cast<int>(domain::RunState::kSucceeded); ++i) {
    const auto state = static_cast<domain::RunState>(i);
    EXPECT_EQ(v1::RunState_Name(ToProto(state)), absl::StrCat("RUN_STATE_", domain::RunStateName(state)));
  }
  for (const domain::MetricRow& row : domain::MetricTable()) {
    EXPECT_EQ(v1::Metric_Name(ToProto(row.metric)), absl::StrCat("METRIC_", row.name));
  }
}

TEST(EnumsTest, UnspecifiedSaysWhatToUse) {
  Violations violations;
  const FieldPath root;
  ReadEnum(v1::SIDE_UNSPECIFIED, root / "side", violations);
  EXPECT_EQ(violations.list()[0].description, "is not set; use one of SIDE_OLD, SIDE_NEW");
}

}  // namespace
}  // namespace lockstep::wire
