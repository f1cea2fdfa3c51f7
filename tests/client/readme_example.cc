// The example of the README, compiled and run. The part between the markers is quoted there word for word.
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "lockstep/fake_control_plane.h"

// README: begin
#include "lockstep/migrator.h"

struct Order {
  std::string customer;
  int64_t total_cents;
};
using Orders = lockstep::Migrator<int64_t, Order>;

template <typename OldStore, typename NewStore>  // your own code for either side, as it is
auto MigrateOrders(lockstep::Client* client, OldStore* old_store, NewStore* new_store) {
  return Orders::Builder(client, "shop/orders")
      .RoutingKey([](int64_t id) { return absl::StrCat(id); })
      .ReadOld([=](int64_t id, const lockstep::ReadContext&) { return old_store->Read(id); })
      .ReadNew([=](int64_t id, const lockstep::ReadContext&) { return new_store->Read(id); })
      .WriteOld([=](int64_t id, const Order* order, const auto&) { return old_store->Write(id, order); })
      .MirrorToNew([=](int64_t id, const Order* order, lockstep::Version version, const auto&) {
        return new_store->ApplyIfNewer(id, order, version);
      })
      .Fields([](const Order& o) {
        return lockstep::RecordView{{"customer", o.customer}, {"total_cents", o.total_cents}};
      })
      .Build();  // then: (*orders)->Read(42), (*orders)->Write(42, order), (*orders)->Delete(42)
}
// README: end

namespace {

struct MapStore {
  absl::StatusOr<std::optional<Order>> Read(int64_t id) const {
    const auto row = rows.find(id);
    return row == rows.end() ? std::optional<Order>() : row->second.row;
  }
  absl::StatusOr<lockstep::WriteResult<Order>> Write(int64_t id, const Order* order) {
    lockstep::WriteResult<Order>& row = rows[id];
    ++row.version;
    row.row = order == nullptr ? std::nullopt : std::optional<Order>(*order);
    return row;
  }
  absl::Status ApplyIfNewer(int64_t id, const Order* order, lockstep::Version version) {
    const auto row = rows.find(id);
    if (lockstep::ShouldApply(row == rows.end() ? std::nullopt : std::optional(row->second.version),
                              version)) {
      rows[id] = {version, order == nullptr ? std::nullopt : std::optional<Order>(*order)};
    }
    return absl::OkStatus();
  }

  std::map<int64_t, lockstep::WriteResult<Order>> rows;
};

TEST(ReadmeExample, ReadsAndWritesBothSides) {
  auto plane = std::make_shared<lockstep::FakeControlPlane>();
  plane->SetStage("shop/orders", lockstep::domain::Stage::kDualWrite);
  const auto client = *lockstep::Client::Create(
      {.transport = plane, .service = "orders", .migrations = {"shop/orders"}, .seed = 1});
  ASSERT_TRUE(client->WaitUntilReady(absl::Now() + absl::Seconds(20)).ok());
  MapStore old_store;
  MapStore new_store;
  const auto orders = MigrateOrders(client.get(), &old_store, &new_store);
  ASSERT_TRUE(orders.ok()) << orders.status();
  ASSERT_TRUE((*orders)->Write(42, {"ann", 1250}).ok());
  EXPECT_EQ((**(*orders)->Read(42)).total_cents, 1250);
  EXPECT_EQ(new_store.rows.at(42).row->total_cents, 1250);
  ASSERT_TRUE((*orders)->Delete(42).ok());
  EXPECT_FALSE((*(*orders)->Read(42)).has_value());
  EXPECT_TRUE(client->Shutdown(absl::Now() + absl::Seconds(20)).ok());
}

}  // namespace
