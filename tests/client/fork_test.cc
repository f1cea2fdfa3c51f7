// A fork()ed child must not act as its parent's instance. In a program of its own, because it forks with
// threads running.
#include <sys/wait.h>
#include <unistd.h>

#include "gtest/gtest.h"
#include "lockstep/client.h"
#include "lockstep/migrator.h"
#include "lockstep/state_storage_memory.h"
#include "tests/client/plane_testing.h"

namespace lockstep {
namespace {

using domain::Stage;
using testing_support::Eventually;
using testing_support::kMigration;

// The executor has no threads there: nothing that is left to it ever ends.
bool RefusesAsyncCalls(Migrator<int, int>& numbers) {
  int refused = 0;
  numbers.ReadAsync(1, {}, [&](const auto& row) { refused += absl::IsFailedPrecondition(row.status()); });
  numbers.WriteAsync(1, 2, {}, [&](const auto& row) { refused += absl::IsFailedPrecondition(row.status()); });
  numbers.DeleteAsync(1, {}, [&](const auto& row) { refused += absl::IsFailedPrecondition(row.status()); });
  return refused == 3;
}

std::unique_ptr<Migrator<int, int>> MakeNumbers(Client* client) {
  Migrator<int, int>::Builder builder(client, kMigration);
  const auto read = [](const int&, const ReadContext&) { return std::optional<int>(); };
  builder.RoutingKey([](const int& key) { return std::to_string(key); })
      .ReadOld(read)
      .ReadNew(read)
      .WriteOld([](const int&, const int*, const WriteContext&) { return WriteResult<int>(); })
      .MirrorToNew([](const int&, const int*, Version, const WriteContext&) { return absl::OkStatus(); })
      .Fields([](const int&) { return RecordView(); })
      .Options({.journal = JournalMode::kOff});
  return *builder.Build();
}

// Answers like an exit code: 0, or the number of the first thing that is wrong.
int InChild(std::unique_ptr<Client>& client, Migrator<int, int>& numbers, const RouteHandle& inherited) {
  const MigrationHandle migration = *client->Resolve(kMigration);
  const auto refused = [](const absl::Status& status) { return absl::IsFailedPrecondition(status); };
  if (!refused(client->Route(migration, "k").status())) return 1;
  if (!refused(client->Route(kMigration, "k").status())) return 2;
  if (!refused(client->PresentAttribution(migration).status())) return 3;
  if (!refused(client->CheckMayWrite())) return 4;
  if (!refused(client->CheckMayWrite(inherited))) return 5;
  if (!refused(client->WaitUntilReady(absl::InfiniteFuture()))) return 6;
  if (!refused(client->Shutdown(absl::InfiniteFuture()))) return 7;
  if (client->Stats().connected) return 8;
  if (!refused(client->CheckProcess())) return 9;
  if (!RefusesAsyncCalls(numbers)) return 10;
  client.reset();
  return 0;
}

int ExitCodeOf(pid_t child) {
  int status = 0;
  if (waitpid(child, &status, 0) != child) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST(ForkTest, AChildIsRefusedAndTheParentGoesOn) {
  auto plane = std::make_shared<FakeControlPlane>();
  auto disk = std::make_shared<MemoryStateStorage>(1);
  plane->SetStage(kMigration, Stage::kDualWrite);
  ClientOptions options = {.transport = plane, .service = "orders", .migrations = {kMigration}, .seed = 1};
  options.state_storage = disk;
  std::unique_ptr<Client> client = *Client::Create(std::move(options));
  ASSERT_TRUE(client->WaitUntilReady(absl::Now() + absl::Seconds(20)).ok());
  const std::unique_ptr<Migrator<int, int>> numbers = MakeNumbers(client.get());
  {
    const RouteHandle route = *client->Route(kMigration, "k");
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);
      _exit(InChild(client, *numbers, route));
    }
    EXPECT_EQ(ExitCodeOf(child), 0);
    EXPECT_TRUE(client->CheckMayWrite(route).ok());
  }
  EXPECT_TRUE(client->Route(kMigration, "k").ok());
  plane->SetStage(kMigration, Stage::kShadowRead);
  EXPECT_TRUE(Eventually([&] { return client->Route(kMigration, "k")->stage() == Stage::kShadowRead; }));
  EXPECT_TRUE(client->Shutdown(absl::Now() + absl::Seconds(20)).ok());
}

// A child that makes a client of its own is an instance of its own, and its children are strangers to it.
TEST(ForkTest, AChildMayMakeItsOwn) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    auto plane = std::make_shared<FakeControlPlane>();
    plane->SetStage(kMigration, Stage::kDualWrite);
    std::unique_ptr<Client> client =
        *Client::Create({.transport = plane, .service = "orders", .migrations = {kMigration}, .seed = 1});
    if (!client->WaitUntilReady(absl::Now() + absl::Seconds(20)).ok()) _exit(1);
    if (!client->Route(kMigration, "k").ok()) _exit(2);
    const pid_t grandchild = fork();
    if (grandchild == 0) _exit(client->Route(kMigration, "k").ok() ? 1 : 0);
    if (ExitCodeOf(grandchild) != 0) _exit(3);
    _exit(client->Shutdown(absl::Now() + absl::Seconds(20)).ok() ? 0 : 4);
  }
  EXPECT_EQ(ExitCodeOf(child), 0);
}

}  // namespace
}  // namespace lockstep
