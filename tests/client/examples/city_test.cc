#include "client/examples/cities/city.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/base/prng.h"
#include "tests/client/examples/cities_testing.h"

namespace lockstep::examples {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(CanonicalizeTest, Coordinates) {
  struct Case {
    const char* text;
    double degrees;
  };
  for (const Case& c : {Case{"42.46372", 42.46372}, Case{"47", 47.0}, Case{"47.0", 47.0}, Case{"-0.5", -0.5},
                        Case{"90", 90.0}, Case{"-90", -90.0}, Case{"0", 0.0}, Case{"1e1", 10.0}}) {
    const auto city = Canonicalize(MakeCity(1, "A", c.text, "1"));
    ASSERT_TRUE(city.ok()) << c.text << ": " << city.status();
    EXPECT_EQ(city->lat, c.degrees) << c.text;
  }
}

TEST(CanonicalizeTest, RefusesWhatIsNoCoordinate) {
  for (const char* text : {"", " 1", "1 ", "1,5", "+1", "0x10", "nan", "inf", "-inf", "90.00001", "-91",
                           "1e999", "north", "1.2.3"}) {
    const auto city = Canonicalize(MakeCity(17, "A", text, "1"));
    ASSERT_TRUE(absl::IsInvalidArgument(city.status())) << text;
    EXPECT_THAT(std::string(city.status().message()), HasSubstr("city 17: lat is ")) << text;
  }
  EXPECT_TRUE(Canonicalize(MakeCity(1, "A", "1", "180")).ok());
  const auto city = Canonicalize(MakeCity(1, "A", "1", "180.1"));
  EXPECT_THAT(std::string(city.status().message()), HasSubstr("lng is \"180.1\""));
}

TEST(CanonicalizeTest, NamesBecomeNfcAndCodesStayText) {
  struct Case {
    const char* name;
    const char* nfc;
  };
  for (const Case& c :
       {Case{"Ordino", "Ordino"}, Case{"Sant Julia\xCC\x80", "Sant Juli\xC3\xA0"},
        Case{"Sant Juli\xC3\xA0", "Sant Juli\xC3\xA0"}, Case{"\xE2\x84\xAB", "\xC3\x85"},  // ANGSTROM SIGN
        Case{"\xEF\xAC\x81", "\xEF\xAC\x81"},              // a ligature: NFC, not NFKC
        Case{"\xE1\x84\x80\xE1\x85\xA1", "\xEA\xB0\x80"},  // Hangul
        Case{"", ""}}) {
    const auto city = Canonicalize(MakeCity(1, c.name, "1", "1", "AD", "05", "007"));
    ASSERT_TRUE(city.ok()) << city.status();
    EXPECT_EQ(city->name, c.nfc);
    EXPECT_EQ(city->admin1, "05");
    EXPECT_EQ(city->admin2, "007");
  }
}

TEST(CanonicalizeTest, RefusesANameThatIsNotUtf8) {
  for (const char* name : {"\xff", "a\xC3", "\xED\xA0\x80"}) {
    const auto city = Canonicalize(MakeCity(3, name));
    ASSERT_TRUE(absl::IsInvalidArgument(city.status()));
    EXPECT_THAT(std::string(city.status().message()), HasSubstr("city 3: name"));
  }
}

TEST(ToLegacyTest, IsTheWayBack) {
  EXPECT_EQ(ToLegacy(MakeCanonical(MakeCity(5))), MakeCity(5));
  for (const char* text : {"47", "-5", "0.1", "-89.99999", "1.50214"}) {
    EXPECT_EQ(ToLegacy(MakeCanonical(MakeCity(1, "A", text, text))).lat, text);
  }
  constexpr uint64_t kSeed = 20240901;
  SCOPED_TRACE(kSeed);
  Prng prng(kSeed);
  for (int i = 0; i < 20'000; ++i) {
    CanonicalCity city = MakeCanonical(MakeCity(1));
    city.lat = (prng.Unit() - 0.5) * 180 * std::pow(10.0, -static_cast<double>(prng.Below(60)));
    city.lng = (prng.Unit() - 0.5) * 360;
    EXPECT_EQ(MakeCanonical(ToLegacy(city)), city);
  }
}

TEST(DifferingFieldsTest, NamesEachField) {
  const CanonicalCity base = MakeCanonical(MakeCity(1));
  EXPECT_THAT(DifferingFields(base, base), IsEmpty());
  CanonicalCity other = base;
  other.lat = std::nextafter(other.lat, 90.0);
  EXPECT_THAT(DifferingFields(base, other), ElementsAre("lat"));
  other = {.id = 2, .name = "x", .lat = 1, .lng = 1, .country = "x", .admin1 = "x", .admin2 = "x"};
  EXPECT_THAT(DifferingFields(base, other),
              ElementsAre("id", "name", "lat", "lng", "country", "admin1", "admin2"));
}

}  // namespace
}  // namespace lockstep::examples
