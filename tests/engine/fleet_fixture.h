// A fleet of instances over an engine, and where the migration is.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/domain/next_hop.h"
#include "tests/engine/engine_fixture.h"

namespace lockstep::engine {

class FleetTest : public EngineTest {
 protected:
  const domain::RoutingState& Published() {
    view_ = Now();
    return view_.migration->published;
  }
  // "CUTOVER 5000/10000": stage, write weight and drain weight.
  std::string Where() {
    const domain::RoutingState& state = Published();
    std::string text(domain::StageName(state.stage));
    if (state.stage == domain::Stage::kCutover)
      absl::StrAppend(&text, " ", state.write_weight, "/", state.drain_weight);
    return absl::StrCat(text, view_.migration->pending ? " pending" : "");
  }
  void Advance() {
    const auto advanced = Do(domain::CommandKind::kAdvance, By("user:ann"), true);
    ASSERT_TRUE(advanced.ok()) << advanced.status();
  }
  // Of one that refuses writes once its lease is over.
  EnrolRequest FailingWrites(const std::string& id, const std::map<std::string, uint64_t>& held = {}) {
    EnrolRequest request = RequestOf(id, held);
    request.lease_policy = domain::LeasePolicy::kFailWrites;
    return request;
  }
  // Everybody has read and acknowledged whatever there is, until nothing new comes.
  void Settle() {
    for (bool moved = true; moved;) {
      moved = false;
      for (auto& [id, stream] : streams_) moved = Take(id) != nullptr || moved;
      AckAll();
    }
  }
  void WalkTo(domain::Stage stage) {
    ASSERT_TRUE(Do(domain::CommandKind::kStart).ok());
    Settle();
    while (StageNow() < stage) {
      Advance();
      Settle();
    }
  }
  void WalkToAllReads() {
    WalkTo(domain::Stage::kCanaryRead);
    while (Published().read_weight < 100000) {
      Advance();
      Settle();
    }
  }
  void Tick(absl::Duration duration) {
    clock_.Advance(duration);
    EXPECT_TRUE(engine_->Tick().ok());
  }
  std::vector<std::string> Actions(size_t newest) {
    std::vector<std::string> actions;
    const auto records = registry().ListDecisions(kName, 0, newest);
    EXPECT_TRUE(records.ok()) << records.status();
    for (const domain::DecisionRecord& record : *records) {
      actions.push_back(record.action);
    }
    return actions;
  }

  MigrationView view_;
};

}  // namespace lockstep::engine
