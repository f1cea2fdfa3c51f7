// What the tests of the cities example share: a directory that goes away, and small rows.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "absl/status/status.h"
#include "client/examples/cities/city.h"

namespace lockstep::examples {

class TempDir {
 public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "cities_XXXXXX").string();
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    path_ = pattern;
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  std::string File(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline City MakeCity(int64_t id, std::string name = "Ordino", std::string lat = "42.55623",
                     std::string lng = "1.53319", std::string country = "AD", std::string admin1 = "05",
                     std::string admin2 = "") {
  return City{id,
              std::move(name),
              std::move(lat),
              std::move(lng),
              std::move(country),
              std::move(admin1),
              std::move(admin2)};
}

inline CanonicalCity MakeCanonical(const City& city) {
  auto canonical = Canonicalize(city);
  EXPECT_TRUE(canonical.ok()) << canonical.status();
  return canonical.ok() ? *canonical : CanonicalCity();
}

}  // namespace lockstep::examples
