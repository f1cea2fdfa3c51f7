#include "lockstep/comparator.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"

namespace lockstep {
namespace {

using domain::ComparisonOutcome;
using domain::FieldRule;
using domain::ListOrder;
using domain::MismatchKind;

constexpr double kInf = std::numeric_limits<double>::infinity();
const FieldValue kNull;

FieldValue List(FieldValue::ListType values) { return FieldValue::List(std::move(values)); }

struct FieldCase {
  const char* name;
  std::optional<FieldValue> old_value;
  std::optional<FieldValue> new_value;
  FieldRule rule;  // `path` is filled in
  std::optional<MismatchKind> expected;
};

FieldRule Tolerance(double tolerance) { return {.tolerance = tolerance}; }
FieldRule Default(std::string value) { return {.has_default = true, .default_value = std::move(value)}; }
FieldRule Unordered(double tolerance = 0) {
  return {.tolerance = tolerance, .list_order = ListOrder::kUnordered};
}

const std::vector<FieldCase>& Cases() {
  static const auto* const cases = new std::vector<FieldCase>{
      {"equal strings", "a", "a", {}, std::nullopt},
      {"strings", "01", "1", {}, MismatchKind::kValue},
      {"equal nulls", kNull, kNull, {}, std::nullopt},
      {"null and string", kNull, "", {}, MismatchKind::kType},
      {"missing", "a", std::nullopt, {}, MismatchKind::kMissing},
      {"extra", std::nullopt, "a", {}, MismatchKind::kExtra},
      {"null is a value", kNull, std::nullopt, {}, MismatchKind::kMissing},
      {"number and string", 1, "1", {}, MismatchKind::kType},
      {"bool and number", true, 1, {}, MismatchKind::kType},
      {"bools", true, false, {}, MismatchKind::kValue},
      {"whole and floating", 1, 1.0, {}, std::nullopt},
      {"beyond 2^53", int64_t{9007199254740993}, 9007199254740992.0, {}, MismatchKind::kValue},
      {"largest whole numbers",
       std::numeric_limits<int64_t>::max(),
       std::numeric_limits<int64_t>::max() - 1,
       {},
       MismatchKind::kValue},
      {"furthest apart", std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min(),
       Tolerance(1), MismatchKind::kValue},
      {"at the tolerance", 1.5, 2.0, Tolerance(0.5), std::nullopt},
      {"above the tolerance", 1.5, 2.0, Tolerance(0.49), MismatchKind::kValue},
      {"tolerance on whole numbers", 10, 12, Tolerance(2), std::nullopt},
      {"not a number", std::nan(""), std::nan(""), {}, std::nullopt},
      {"not a number and number", std::nan(""), 1.0, Tolerance(100), MismatchKind::kValue},
      {"infinities", kInf, kInf, {}, std::nullopt},
      {"opposite infinities", kInf, -kInf, Tolerance(1), MismatchKind::kValue},
      {"zeros", 0.0, -0.0, {}, std::nullopt},
      {"default for absent new", 0, std::nullopt, Default("0"), std::nullopt},
      {"default for absent old", std::nullopt, "x", Default("x"), std::nullopt},
      {"default for null", kNull, 0.0, Default("0"), std::nullopt},
      {"default does not match", 7, std::nullopt, Default("0"), MismatchKind::kValue},
      {"default of another type", 7, std::nullopt, Default("seven"), MismatchKind::kType},
      {"default for both", std::nullopt, kNull, Default("0"), std::nullopt},
      {"default for bool", true, std::nullopt, Default("true"), std::nullopt},
      {"default within tolerance",
       0.05,
       std::nullopt,
       {.tolerance = 0.1, .has_default = true, .default_value = "0"},
       std::nullopt},
      {"empty list by default", List({}), std::nullopt, Default(""), std::nullopt},
      {"equal lists", List({"a", "b"}), List({"a", "b"}), {}, std::nullopt},
      {"order", List({"a", "b"}), List({"b", "a"}), {}, MismatchKind::kOrder},
      {"order does not matter", List({"a", "b", "a"}), List({"b", "a", "a"}), Unordered(), std::nullopt},
      {"multisets", List({"a", "b", "b"}), List({"b", "a", "a"}), Unordered(), MismatchKind::kValue},
      {"longer list", List({"a"}), List({"a", "a"}), {}, MismatchKind::kValue},
      {"longer unordered list", List({"a"}), List({"a", "a"}), Unordered(), MismatchKind::kValue},
      {"numbers in a multiset", List({1, 2.0}), List({2.04, 1.04}), Unordered(0.05), std::nullopt},
      {"lists in lists", List({List({"b", "a"}), "x"}), List({"x", List({"a", "b"})}), Unordered(),
       std::nullopt},
      {"pairs of lists in lists", List({List({"b", "a"}), List({"a", "c"})}),
       List({List({"c", "a"}), List({"a", "b"})}), Unordered(), std::nullopt},
      {"list and string", List({"a"}), "a", {}, MismatchKind::kType},
  };
  return *cases;
}

RecordView ViewOf(const std::optional<FieldValue>& value) {
  RecordView view = {{"id", 1}};
  if (value.has_value()) view.emplace_back("f", *value);
  return view;
}

domain::Contract ContractOf(FieldRule rule) {
  rule.path = "f";
  return {.fields = {rule}};
}

TEST(ComparatorTest, Fields) {
  for (const FieldCase& c : Cases()) {
    SCOPED_TRACE(c.name);
    const Comparison result = CompareRecords(ViewOf(c.old_value), ViewOf(c.new_value), ContractOf(c.rule));
    if (!c.expected.has_value()) {
      EXPECT_EQ(result.outcome, ComparisonOutcome::kMatch);
      EXPECT_TRUE(result.differences.empty());
      continue;
    }
    EXPECT_EQ(result.outcome, ComparisonOutcome::kMismatch);
    ASSERT_EQ(result.differences.size(), 1u);
    EXPECT_EQ(result.differences[0].path, "f");
    EXPECT_TRUE(result.differences[0].declared);
    EXPECT_EQ(domain::MismatchKindName(result.differences[0].kind), domain::MismatchKindName(*c.expected));
  }
}

// The other way round the same field differs, with missing and extra exchanged.
TEST(ComparatorTest, Symmetric) {
  for (const FieldCase& c : Cases()) {
    SCOPED_TRACE(c.name);
    const Comparison there = CompareRecords(ViewOf(c.old_value), ViewOf(c.new_value), ContractOf(c.rule));
    const Comparison back = CompareRecords(ViewOf(c.new_value), ViewOf(c.old_value), ContractOf(c.rule));
    ASSERT_EQ(there.outcome, back.outcome);
    if (there.differences.empty()) continue;
    MismatchKind kind = back.differences[0].kind;
    if (kind == MismatchKind::kMissing) {
      kind = MismatchKind::kExtra;
    } else if (kind == MismatchKind::kExtra) {
      kind = MismatchKind::kMissing;
    }
    EXPECT_EQ(there.differences[0].kind, kind);
  }
}

TEST(ComparatorTest, IgnoredFieldsAreTold) {
  domain::Contract contract = {.fields = {{.path = "f", .ignore = true}}};
  const RecordView a = {{"f", 1}, {"g", 1}};
  EXPECT_EQ(CompareRecords(a, a, contract).outcome, ComparisonOutcome::kMatch);
  const Comparison ignored = CompareRecords(a, {{"f", 2}, {"g", 1}}, contract);
  EXPECT_EQ(ignored.outcome, ComparisonOutcome::kIgnored);
  EXPECT_TRUE(ignored.differences.empty());
  const Comparison mismatch = CompareRecords(a, {{"f", 2}, {"g", 2}}, contract);
  EXPECT_EQ(mismatch.outcome, ComparisonOutcome::kMismatch);
  ASSERT_EQ(mismatch.differences.size(), 1u);
  EXPECT_EQ(mismatch.differences[0].path, "g");
  EXPECT_FALSE(mismatch.differences[0].declared);
}

TEST(ComparatorTest, OrderOfFieldsMeansNothingAndRepeatedPathsCountOnce) {
  const RecordView a = {{"x", 1}, {"y", 2}};
  const RecordView b = {{"y", 2}, {"x", 1}, {"x", 9}};
  EXPECT_EQ(CompareRecords(a, b, {}).outcome, ComparisonOutcome::kMatch);
}

TEST(ComparatorTest, DifferencesComeByPathAndCarryCanonicalForms) {
  const Comparison result = CompareRecords({{"z", 1}, {"a", "x"}}, {{"z", 2.5}, {"m", List({"q", 10})}},
                                           {.fields = {{.path = "z", .sensitive = true}}});
  ASSERT_EQ(result.differences.size(), 3u);
  EXPECT_EQ(result.differences[0].path, "a");
  EXPECT_EQ(result.differences[0].kind, MismatchKind::kMissing);
  EXPECT_EQ(result.differences[1].path, "m");
  EXPECT_EQ(result.differences[1].new_canonical, "1:q2:10");
  EXPECT_EQ(result.differences[2].path, "z");
  EXPECT_EQ(result.differences[2].old_canonical, "1");
  EXPECT_EQ(result.differences[2].new_canonical, "2.5");
  EXPECT_TRUE(result.differences[2].sensitive);
  EXPECT_FALSE(result.differences[0].sensitive);
}

TEST(ComparatorTest, MissingRecords) {
  const RecordView record = {{"x", 1}};
  EXPECT_EQ(CompareRecords(&record, nullptr, {}).outcome, ComparisonOutcome::kMissingInNew);
  EXPECT_EQ(CompareRecords(nullptr, &record, {}).outcome, ComparisonOutcome::kMissingInOld);
  EXPECT_EQ(CompareRecords(nullptr, nullptr, {}).outcome, ComparisonOutcome::kMatch);
  EXPECT_EQ(CompareRecords(&record, &record, {}).outcome, ComparisonOutcome::kMatch);
}

}  // namespace
}  // namespace lockstep
