// GateService over a real channel, on an engine whose clock stands still: buckets close when the test says
// so.
#include "server/service/gate_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/domain/rehearsal.h"
#include "core/wire/evidence_log.h"
#include "core/wire/gate.h"
#include "core/wire/timestamps.h"
#include "tests/engine/gate_fixture.h"
#include "tests/support/api_client.h"
#include "tests/support/status_matchers.h"

namespace lockstep::engine {
namespace {

using domain::CommandKind;
using lockstep::testing::BadFields;
using lockstep::testing::Decode;
using lockstep::testing::IsOk;
using ::testing::HasSubstr;

class GateServiceTest : public GateTest {
 protected:
  GateServiceTest() : pool_(std::make_unique<service::WorkerPool>(2)) {
    service_ = std::make_unique<service::GateServiceImpl>(engine_.get(), pool_.get(), &clock_);
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    api_ = std::make_unique<lockstep::testing::ApiClient>(absl::StrCat("127.0.0.1:", port));
  }
  ~GateServiceTest() override {
    service_->EndStreams();
    server_->Shutdown();
    server_->Wait();
    pool_.reset();
  }

  // Rich traffic up to the last step and for so many seconds more.
  void RunRich(int seconds) {
    Create(kName, RichPlanWithoutFields());
    ASSERT_TRUE(Do(CommandKind::kStart).ok());
    int rest = seconds;
    for (int i = 1; i < 400 && rest > 0 && !HasFatalFailure(); ++i) {
      clock_.Advance(absl::Seconds(1));
      ASSERT_TRUE(Report({"a", 1, ++sequence_, {RichDelta(kName, i)}}).ok());
      ASSERT_TRUE(engine_->Tick().ok());
      rest -= Now().migration->step == 3 ? 1 : 0;
    }
    ASSERT_EQ(rest, 0);
  }
  static domain::MigrationPlan RichPlanWithoutFields() {
    domain::MigrationPlan plan = RichPlan();
    for (domain::PlanStep& step : plan.steps) {
      for (domain::Check& check : step.checks) check.field.clear();
    }
    return plan;
  }

  absl::StatusOr<v1::ExplainGateResponse> Explain(const std::string& name,
                                                  std::optional<absl::Time> time = std::nullopt) {
    v1::ExplainGateRequest request;
    request.set_name(name);
    if (time) *request.mutable_time() = wire::ToProto(*time);
    return api_->Call(&v1::GateService::Stub::ExplainGate, request);
  }
  // Everything, and how the stream ended.
  absl::Status Export(const std::string& name, std::vector<v1::EvidenceLine>* lines) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + lockstep::testing::kPatience));
    v1::ExportEvidenceRequest request;
    request.set_name(name);
    const auto stream = api_->gate()->ExportEvidence(&context, request);
    v1::EvidenceLine line;
    while (stream->Read(&line)) lines->push_back(line);
    return Decode(stream->Finish());
  }

  std::unique_ptr<service::WorkerPool> pool_;
  std::unique_ptr<service::GateServiceImpl> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<lockstep::testing::ApiClient> api_;
};

TEST_F(GateServiceTest, ExplainsNowAndThen) {
  RunRich(20);
  const auto now = Explain(kName);
  ASSERT_TRUE(IsOk(now));
  const auto expected = engine_->gate().Explain(kName, std::nullopt);
  ASSERT_TRUE(IsOk(expected));
  EXPECT_EQ(now->gate().SerializeAsString(),
            wire::ToProto(expected->result, clock_.Now()).SerializeAsString());
  EXPECT_EQ(now->step(), 3u);
  EXPECT_EQ(now->gate().checks_size(), 3);
  EXPECT_EQ(now->last_decision().name(), absl::StrCat(kName, "/decisions/", Now().migration->decision_count));

  const std::vector<domain::DecisionRecord> decisions = Decisions();
  const domain::DecisionRecord& decision =
      *std::find_if(decisions.begin(), decisions.end(), [](const auto& d) { return d.action == "advance"; });
  const auto then = Explain(kName, decision.time);
  ASSERT_TRUE(IsOk(then));
  EXPECT_EQ(then->step(), 2u) << "where it was decided";
  EXPECT_EQ(then->gate().verdict(), v1::VERDICT_ADVANCE);
  EXPECT_EQ(then->gate().SerializeAsString(), then->last_decision().evidence().SerializeAsString());
}

TEST_F(GateServiceTest, SaysWhatIsWrongWithARequest) {
  EXPECT_THAT(BadFields(Explain("orders").status()), ::testing::ElementsAre("name"));
  const absl::Status none = Explain(kName).status();
  EXPECT_EQ(none.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReasonOf(none), "MIGRATION_NOT_FOUND");
  Create();
  const absl::Status off = Explain(kName).status();
  EXPECT_EQ(off.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReasonOf(off), "EVIDENCE_NONE");
  EXPECT_THAT(std::string(off.message()), HasSubstr("DRAFT at OFF"));
  const absl::Status future = Explain(kName, clock_.Now() + absl::Seconds(1)).status();
  EXPECT_EQ(future.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(BadFields(future), ::testing::ElementsAre("time"));

  std::vector<v1::EvidenceLine> lines;
  EXPECT_EQ(ReasonOf(Export(kName, &lines)), "EVIDENCE_NONE");
  EXPECT_EQ(ReasonOf(Export("namespaces/a/migrations/none", &lines)), "MIGRATION_NOT_FOUND");
  EXPECT_THAT(BadFields(Export("orders", &lines)), ::testing::ElementsAre("name"));
  EXPECT_TRUE(lines.empty());
}

TEST_F(GateServiceTest, AnExportIsALogThatReplays) {
  RunRich(200);
  std::vector<v1::EvidenceLine> lines;
  ASSERT_TRUE(IsOk(Export(kName, &lines)));
  ASSERT_GT(lines.size(), 40u) << "more than one read";
  EXPECT_EQ(lines[0].header().migration(), kName);
  domain::Rehearsal rehearsal;
  std::optional<domain::RehearsedBucket> judged;
  for (size_t i = 0; i < lines.size(); ++i) {
    const auto line = wire::EvidenceLineFromProto(lines[i]);
    ASSERT_TRUE(IsOk(line)) << i;
    const auto result = rehearsal.Add(*line, i + 1);
    ASSERT_TRUE(IsOk(result)) << i;
    if (*result) judged = *result;
  }
  const auto now = engine_->gate().Explain(kName, std::nullopt);
  ASSERT_TRUE(IsOk(now));
  ASSERT_TRUE(judged.has_value());
  ASSERT_EQ(judged->result.checks.size(), now->result.checks.size());
  for (size_t i = 0; i < now->result.checks.size(); ++i) {
    EXPECT_EQ(judged->result.checks[i].log_evidence_rollback, now->result.checks[i].log_evidence_rollback);
    EXPECT_EQ(judged->result.checks[i].log_evidence_advance, now->result.checks[i].log_evidence_advance);
  }
}

// Given up at every moment; the address sanitizer sees what is left behind.
TEST_F(GateServiceTest, ExportsMayBeGivenUp) {
  RunRich(200);
  for (int reads = 0; reads < 60; ++reads) {
    grpc::ClientContext context;
    v1::ExportEvidenceRequest request;
    request.set_name(kName);
    const auto stream = api_->gate()->ExportEvidence(&context, request);
    v1::EvidenceLine line;
    for (int i = 0; i < reads; ++i) {
      if (!stream->Read(&line)) break;
    }
    context.TryCancel();
    while (stream->Read(&line)) {
    }
    stream->Finish();
  }
  service_->EndStreams();
  std::vector<v1::EvidenceLine> lines;
  EXPECT_EQ(Export(kName, &lines).code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace lockstep::engine
