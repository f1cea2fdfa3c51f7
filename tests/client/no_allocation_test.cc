// Routing by handle and a read that is not compared allocate nothing. In a program of its own, because it
// replaces operator new.
#include <atomic>
#include <cstdlib>
#include <new>

#include "core/domain/bucketing.h"
#include "gtest/gtest.h"
#include "lockstep/client.h"
#include "lockstep/migrator.h"
#include "tests/client/plane_testing.h"

namespace {
thread_local uint64_t allocations = 0;

void* Allocate(size_t size) {
  ++allocations;
  void* const memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) std::abort();
  return memory;
}
}  // namespace

void* operator new(size_t size) { return Allocate(size); }
void* operator new[](size_t size) { return Allocate(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }

namespace lockstep {
namespace {

using domain::Stage;
using testing_support::kMigration;

TEST(NoAllocationTest, RouteByHandle) {
  auto plane = std::make_shared<FakeControlPlane>();
  domain::RoutingState state = domain::StateOfStage(Stage::kCanaryRead, 50000);
  auto pins = std::make_shared<domain::Pins>();
  pins->keys["pinned"] = domain::Side::kNew;
  pins->rules.push_back({.attribute = "tenant", .values = {"vip"}, .side = domain::Side::kOld});
  state.pins = pins;
  plane->SetState(kMigration, state);
  const std::unique_ptr<Client> client =
      *Client::Create({.transport = plane, .service = "orders", .migrations = {kMigration}, .seed = 1});
  ASSERT_TRUE(client->WaitUntilReady(absl::Now() + absl::Seconds(20)).ok());
  const MigrationHandle handle = *client->Resolve(kMigration);
  const domain::Attributes attributes = {{"tenant", "vip"},
                                         {"a much longer attribute name", "and a longer value too"}};
  const std::string long_key(1024, 'k');
  ASSERT_TRUE(client->Route(handle, "warm-up of thread-local storage").ok());
  const uint64_t before = allocations;
  uint64_t buckets = 0;
  for (int i = 0; i < 1000; ++i) {
    buckets += client->Route(handle, "order-1")->decision().bucket;
    buckets += client->Route(handle, "pinned", &attributes)->decision().bucket;
    buckets += client->Route(handle, long_key, &attributes)->decision().bucket;
  }
  EXPECT_EQ(allocations, before);
  EXPECT_GT(buckets, 0u);
}

TEST(NoAllocationTest, AReadThatIsNotCompared) {
  using Numbers = Migrator<int64_t, int64_t>;
  FakeClock clock(absl::FromUnixSeconds(1'700'000'000));
  auto plane = std::make_shared<FakeControlPlane>();
  plane->SetStage(kMigration, Stage::kDualWrite);
  ClientOptions options = {.transport = plane, .service = "orders", .migrations = {kMigration}};
  options.clock = &clock;
  options.seed = 1;
  const std::unique_ptr<Client> client = *Client::Create(std::move(options));
  ASSERT_TRUE(client->WaitUntilReady(absl::InfiniteFuture()).ok());
  const auto read = [](const int64_t& id, const ReadContext&) { return std::optional<int64_t>(id); };
  const std::unique_ptr<Numbers> numbers =
      *Numbers::Builder(client.get(), kMigration)
           .RoutingKey([](const int64_t& id) { return std::string(1, static_cast<char>('a' + id % 26)); })
           .ReadOld(read)
           .ReadNew(read)
           .WriteOld([](const int64_t&, const int64_t*, const WriteContext&) {
             return absl::StatusOr<WriteResult<int64_t>>(absl::UnimplementedError("not written"));
           })
           .MirrorToNew([](const int64_t&, const int64_t*, Version, const WriteContext&) {
             return absl::UnimplementedError("not written");
           })
           .Fields([](const int64_t& number) {
             return RecordView{{"number", number}};
           })
           .Build();
  ASSERT_TRUE(numbers->Read(1).ok());
  const uint64_t before = allocations;
  int64_t sum = 0;
  for (int64_t i = 0; i < 1000; ++i) sum += **numbers->Read(i);
  EXPECT_EQ(allocations, before);
  EXPECT_EQ(sum, 999 * 1000 / 2);
}

TEST(NoAllocationTest, CountingAllocatesOnlyForANewBucket) {
  FakeClock clock(absl::FromUnixSeconds(1'700'000'000));
  TelemetryRecorder recorder({.migrations = {"m"}}, &clock);
  const Attribution to{.generation = 1, .epoch = 1, .contract_revision = 1};
  const auto record = [&](absl::string_view name) {
    recorder.RecordRead(to, domain::Arm::kOld, true, absl::Microseconds(10), {name, 1});
    recorder.RecordAuthoritativeWrite(to, true);
    recorder.RecordComparison(to, 1, {.outcome = domain::ComparisonOutcome::kMatch, .subject = name});
  };
  record("anybody");
  const uint64_t before = allocations;
  for (int i = 0; i < 1000; ++i) {
    record(absl::string_view("0123456789012345678901234567890123456789").substr(i % 40, 1 + i % 7));
    recorder.RecordRead(to, domain::Arm::kOld, true, absl::Microseconds(i));
    recorder.RecordRepairQueued(to);
    recorder.RecordBackfill(to, 10, 10);
  }
  EXPECT_EQ(allocations, before);
}

}  // namespace
}  // namespace lockstep
