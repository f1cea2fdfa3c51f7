// What `-o table` and `-o wide` show of the instances and of what is waited for: pure functions from messages
// to text. Lines end with a line break.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/cli/render.h"
#include "lockstep/v1/migration.pb.h"
#include "lockstep/v1/migration_service.pb.h"

namespace lockstep::cli {

// One line for each.
std::string RenderInstances(const std::vector<v1::Instance>& instances, const RenderOptions& options);

// Instances that are waited for in the same matter.
struct FenceWaitGroup {
  std::string reason;
  std::string unblock;
  std::vector<v1::FenceWait> waits;
};

// By reason and by what would end the wait, in order of appearance.
std::vector<FenceWaitGroup> GroupFenceWaits(const v1::Migration& migration);
// Those that are not named included.
uint32_t WaitingForCount(const v1::Migration& migration);
// "cities-0, cities-1, cities-2 and 4 more".
std::string DescribeWaitedFor(const FenceWaitGroup& group);
// A section with the goal that is not published yet: what holds it up, since when, and what would end that.
// Empty if there is none.
std::string RenderPending(const v1::Migration& migration, const RenderOptions& options);

// How fast a fleet followed a publish.
struct DrillReport {
  std::string migration;  // short name
  uint64_t epoch = 0;
  size_t enrolled = 0;
  size_t following = 0;
  // From the publish until the instance acted on it, ascending. One that the server did not see both of has
  // none.
  std::vector<absl::Duration> delays;
  std::vector<v1::Instance> missing;  // enrolled, and not following
};

// What the instances say of `epoch`.
DrillReport JudgeDrill(std::string migration, uint64_t epoch, const std::vector<v1::Instance>& instances);
// The smallest delay that at least this share of the instances kept (nearest rank); `delays` is not empty,
// `share` in (0, 1].
absl::Duration DelayQuantile(const std::vector<absl::Duration>& delays, double share);
std::string RenderDrill(const DrillReport& report, const RenderOptions& options);

}  // namespace lockstep::cli
