#include "core/wire/violations.h"

#include <gtest/gtest.h>

#include <limits>

#include "absl/strings/str_cat.h"
#include "tests/wire/violation_matchers.h"

namespace lockstep::wire {
namespace {

TEST(FieldPathTest, Text) {
  const FieldPath root;
  const FieldPath plan = root / "plan";
  const FieldPath step = plan.At("steps", 2);
  EXPECT_EQ(root.ToString(), "");
  EXPECT_EQ((step / "weight").ToString(), "plan.steps[2].weight");
  EXPECT_EQ(root.At("labels", "a\"b\n").ToString(), "labels[\"a\\\"b\\n\"]");
}

TEST(ViolationsTest, FirstOfEachFieldAndNotTooMany) {
  Violations violations;
  EXPECT_TRUE(violations.ToStatus().ok());
  const FieldPath root;
  violations.Add(root / "a", "first");
  violations.Add(root / "a", "second");
  EXPECT_THAT(violations.ToStatus(), Refuses("a", "first"));
  EXPECT_EQ(violations.list().size(), 1u);
  for (int i = 0; i < 1000; ++i) violations.Add(root.At("b", i), "wrong");
  EXPECT_EQ(violations.list().size(), Violations::kMost);
}

TEST(ViolationsTest, StatusWithAndWithoutPath) {
  Violations violations;
  const FieldPath root;
  violations.AddStatus(absl::OkStatus(), root / "x");
  violations.AddStatus(absl::InvalidArgumentError("contract.fields[1].path: is empty"), root / "x");
  violations.AddStatus(absl::InvalidArgumentError("too bad: it failed"), root / "x");
  EXPECT_THAT(violations.ToStatus(), Refuses("contract.fields[1].path", "is empty"));
  EXPECT_THAT(violations.ToStatus(), Refuses("x", "too bad: it failed"));
}

TEST(ChecksTest, LengthsAreCharactersAndSizesAreBytes) {
  Violations violations;
  const FieldPath root;
  const std::string text = "\xc3\xa4\xc3\xa4";  // two characters, four bytes
  EXPECT_TRUE(CheckLength(root / "a", text, {.max = 2}, violations));
  EXPECT_FALSE(CheckLength(root / "b", text, {.max = 1}, violations));
  EXPECT_TRUE(CheckBytes(root / "c", text.size(), {.max = 4}, violations));
  EXPECT_FALSE(CheckBytes(root / "d", text.size(), {.max = 3}, violations));
  EXPECT_FALSE(CheckLength(root / "e", text, {.min = 3}, violations));
  EXPECT_FALSE(CheckFinite(root / "f", std::numeric_limits<double>::quiet_NaN(), violations));
  EXPECT_FALSE(CheckFinite(root / "g", std::numeric_limits<double>::infinity(), violations));
  EXPECT_TRUE(CheckFinite(root / "h", 0, violations));
  EXPECT_THAT(ViolatedFields(violations.ToStatus()), testing::ElementsAre("b", "d", "e", "f", "g"));
}

}  // namespace
}  // namespace lockstep::wire
