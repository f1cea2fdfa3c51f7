// Errors on the wire: absl::Status with its ErrorInfo (core/base/error_info.h) as google.rpc.Status, and
// back.
//
// gRPC carries code and message by itself, and the bytes made here as "grpc-status-details-bin"; services and
// clients make grpc::Status from the three, so that nothing here knows gRPC.
#pragma once

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "google/rpc/status.pb.h"

namespace lockstep::wire {

inline constexpr absl::string_view kErrorDomain = "lockstep";

// gRPC answers with at most 8 KiB of metadata by default, in which the details are base64 and the message
// comes again, each byte outside ASCII as three: what is longer than this is cut, field violations first from
// the end.
inline constexpr size_t kMaxErrorMessageBytes = 1024;
inline constexpr size_t kMaxErrorDetailsBytes = 3500;

// The status's message as it may travel: UTF-8, at most kMaxErrorMessageBytes.
std::string WireMessage(const absl::Status& status);

// With google.rpc.ErrorInfo{reason, kErrorDomain, metadata}, BadRequest and PreconditionFailure as far as
// they apply. A status without ErrorInfo gets its code's name as the reason. OK gives an empty message.
google::rpc::Status ToRpcStatus(const absl::Status& status);
// ToRpcStatus, serialised; empty for OK.
std::string StatusDetails(const absl::Status& status);

// The reverse, from the three parts that gRPC hands over. Details that are empty, damaged or of another
// domain leave a status of code and message alone: the caller still learns what failed. Codes outside the
// known ones become UNKNOWN.
absl::Status StatusFromWire(int code, absl::string_view message, absl::string_view details);

}  // namespace lockstep::wire
