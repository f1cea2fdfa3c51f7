#include "core/domain/records.h"

#include <gtest/gtest.h>

namespace lockstep::domain {
namespace {

TEST(RecordsTest, StatusInWords) {
  const struct {
    InstanceStatus status;
    const char* text;
  } cases[] = {
      {{}, ""},
      {{.operations = 1, .oldest_operation = absl::Milliseconds(40)}, "1 operation, oldest 40 ms"},
      {{.operations = 3, .oldest_operation = absl::Seconds(12.9), .repairs = 2},
       "3 operations, oldest 12 s; 2 repairs"},
      {{.operations = 3, .oldest_operation = absl::Minutes(2) + absl::Seconds(3.5)},
       "3 operations, oldest 2m3s"},
      {{.repairs = 1, .queued_mirrors = 1, .held_writes = 1},
       "1 repair; 1 queued mirror write; 1 held write"},
      {{.queued_mirrors = 7, .held_writes = 20}, "7 queued mirror writes; 20 held writes"},
  };
  for (const auto& test : cases) EXPECT_EQ(DescribeStatus(test.status), test.text);
}

TEST(RecordsTest, PolicyNames) {
  EXPECT_EQ(LeasePolicyName(LeasePolicy::kKeepServing), "KEEP_SERVING");
  EXPECT_EQ(LeasePolicyName(LeasePolicy::kFailWrites), "FAIL_WRITES");
}

}  // namespace
}  // namespace lockstep::domain
