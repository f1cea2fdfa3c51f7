#include "tests/e2e/fleet.h"

#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/support/status_matchers.h"

namespace lockstep::testing {

FleetService::FleetService(FleetServiceOptions options) : options_(std::move(options)) {
  std::filesystem::create_directory(options_.directory);
  Restart();
}

void FleetService::Restart() {
  process_.reset();
  output_ = absl::StrCat(options_.directory, "/output-", ++processes_);
  operations_.clear();
  parsed_ = 0;
  std::vector<std::string> arguments = options_.wrapper;
  for (const std::string& argument :
       {std::string(FLEET_SERVICE_PATH), options_.address, options_.migration, options_.instance,
        options_.directory, absl::StrCat(absl::ToInt64Milliseconds(options_.lease))}) {
    arguments.push_back(argument);
  }
  if (options_.keep_state) arguments.push_back("keep-state");
  if (options_.fail_writes) arguments.push_back("fail-writes");
  process_ = std::make_unique<ChildProcess>(std::move(arguments), ChildOptions{.output = output_});
}

void FleetService::AwaitStop() {
  const bool stopped = Eventually([this] {
    // "pid (name) state ...", and the name has no ')'.
    const std::string stat = ReadFileOrEmpty(absl::StrCat("/proc/", pid(), "/stat"));
    return absl::StrContains(stat, ") T ");
  });
  EXPECT_TRUE(stopped) << options_.instance << " does not stop";
}

void FleetService::Stop() {
  process_->Signal(SIGSTOP);
  AwaitStop();
}

void FleetService::StopInWrite() {
  process_->Signal(SIGUSR1);
  AwaitStop();
}

std::optional<int> FleetService::End() {
  process_->Signal(SIGTERM);
  return process_->Wait();
}

const std::vector<FleetOperation>& FleetService::Operations() {
  std::ifstream file(output_, std::ios::binary);
  file.seekg(static_cast<std::streamoff>(parsed_));
  std::string line;
  while (std::getline(file, line) && !file.eof()) {
    parsed_ += line.size() + 1;
    std::istringstream words(line);
    std::string op, bar;
    int64_t start = 0;
    FleetOperation operation;
    if (!(words >> op >> start >> operation.write >> operation.epoch >> operation.side >> operation.read >>
          bar) ||
        op != "op") {
      continue;
    }
    operation.start = absl::FromUnixNanos(start);
    std::getline(words >> std::ws, operation.message);
    operations_.push_back(std::move(operation));
  }
  return operations_;
}

bool FleetService::Serves() {
  return Eventually([this] { return !Operations().empty() && operations_.back().ok(); });
}

bool FleetService::DoesMore(size_t count) {
  // The one under way may have begun earlier.
  const size_t wanted = Operations().size() + 1 + count;
  return Eventually([&] { return Operations().size() >= wanted; });
}

std::optional<FleetOperation> FleetService::FirstFailure() {
  bool served = false;
  for (const FleetOperation& operation : Operations()) {
    if (served && !operation.ok()) return operation;
    served = served || operation.ok();
  }
  return std::nullopt;
}

v1::Migration FleetMigration() {
  v1::Migration migration;
  const auto add = [&](v1::Stage stage, uint32_t weight) {
    v1::PlanStep* step = migration.mutable_plan()->add_steps();
    step->set_stage(stage);
    step->set_weight(weight);
    step->set_manual(true);
  };
  add(v1::STAGE_DUAL_WRITE, 0);
  add(v1::STAGE_SHADOW_READ, 0);
  add(v1::STAGE_CANARY_READ, 100000);
  add(v1::STAGE_CUTOVER, 100000);
  migration.mutable_plan()->mutable_cutover()->set_slice_weight(50000);
  migration.mutable_contract()->add_fields()->set_path("text");
  return migration;
}

v1::Instance FindInstance(ApiClient* api, const std::string& id, const std::string& instance) {
  v1::ListInstancesRequest request;
  request.set_parent(NameOf(id));
  const auto listed = api->Call(&v1::MigrationService::Stub::ListInstances, request);
  if (!listed.ok()) return {};
  for (const v1::Instance& found : listed->instances()) {
    if (found.instance_id() == instance) return found;
  }
  return {};
}

::testing::AssertionResult AdvanceTo(ApiClient* api, const std::string& id, v1::Stage stage) {
  while (true) {
    absl::StatusOr<v1::Migration> migration;
    const bool settled = Eventually([&] {
      migration = api->Get(id);
      return migration.ok() && !migration->has_pending_routing();
    });
    if (!migration.ok()) return IsOk(migration);
    if (!settled) return ::testing::AssertionFailure() << "still waits: " << migration->ShortDebugString();
    if (migration->routing().stage() >= stage) return ::testing::AssertionSuccess();
    const auto moved = migration->run_state() == v1::RUN_STATE_DRAFT ? api->Start(id) : api->Advance(id);
    if (!moved.ok()) return IsOk(moved);
  }
}

}  // namespace lockstep::testing
