// Reads the tensors that the encoder node publishes: docs/wire_format.md in C++17, nothing but the message header.
//
//   auto subscription = node->create_subscription<sensor_msgs::msg::Image>(
//     "/vit_encoder/tokens", rclcpp::QoS(1), [](sensor_msgs::msg::Image::ConstSharedPtr message) {
//       vit_tokens::Tensor tokens(*message);
//       for (size_t t = 0; t < tokens.rows(); ++t) {
//         if (tokens.is_valid(t)) {use(tokens.at(t, 0));}
//       }
//     });
#ifndef VIT_TOKENS_HPP_
#define VIT_TOKENS_HPP_

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "sensor_msgs/msg/image.hpp"

namespace vit_tokens
{

// IEEE 754 binary16 as float, exact.
inline float half_to_float(uint16_t bits)
{
  const int exponent = (bits >> 10) & 0x1f;
  const int fraction = bits & 0x3ff;
  float magnitude;
  if (exponent == 0x1f) {
    magnitude = fraction ? std::numeric_limits<float>::quiet_NaN() : std::numeric_limits<float>::infinity();
  } else if (exponent == 0) {
    magnitude = std::ldexp(static_cast<float>(fraction), -24);
  } else {
    magnitude = std::ldexp(static_cast<float>(fraction + 0x400), exponent - 25);
  }
  return bits & 0x8000 ? -magnitude : magnitude;
}

// A view of an Image with T tokens of D channels (32FC1, 16FC1, or 8UC1 with a scale a token), or of a mono8 mask.
// The message must outlive it.
class Tensor
{
public:
  // Throws std::invalid_argument for an encoding, byte order, step or amount of data that the format does not have.
  explicit Tensor(const sensor_msgs::msg::Image & message)
  : message_(message)
  {
    if (message.encoding == "32FC1") {
      item_bytes_ = 4;
    } else if (message.encoding == "16FC1") {
      item_bytes_ = 2;
    } else if (message.encoding == "8UC1") {
      if (message.height == 1 && message.step == message.width) {
        throw std::invalid_argument("the tokens are coefficients of a basis; accepted: restore(), with ~/basis");
      }
      item_bytes_ = 1;
      has_scale_ = true;
    } else if (message.encoding == "mono8") {
      item_bytes_ = 1;
    } else {
      throw std::invalid_argument("encoding is '" + message.encoding + "'; accepted: 32FC1, 16FC1, 8UC1, mono8");
    }
    const uint64_t step = message.step;
    const uint64_t row_bytes = static_cast<uint64_t>(message.width) * item_bytes_ + (has_scale_ ? 4 : 0);
    if (message.is_bigendian || step < row_bytes || message.data.size() < step * message.height)
    {
      throw std::invalid_argument(
              std::to_string(message.height) + " x " + std::to_string(message.width) + " of " + message.encoding +
              " with step " + std::to_string(step) + " does not fit " + std::to_string(message.data.size()) +
              " bytes; accepted: little-endian rows of at least width * itemsize bytes (8UC1: and 4 for the scale)");
    }
    for (size_t t = 0; has_scale_ && t < rows(); ++t) {
      if (!(scale(t) >= 0.0f && std::isfinite(scale(t)))) {
        throw std::invalid_argument(
                "the scale of row " + std::to_string(t) + " is " + std::to_string(scale(t)) +
                "; accepted: a number from 0");
      }
    }
  }

  size_t rows() const {return message_.height;}
  size_t width() const {return message_.width;}

  // Channel `d` of token `t`; neither is checked.
  float at(size_t t, size_t d) const
  {
    const uint8_t * address = message_.data.data() + t * message_.step + d * item_bytes_;
    // memcpy, because nothing aligns the bytes of a message.
    if (item_bytes_ == 4) {
      float value;
      std::memcpy(&value, address, 4);
      return value;
    }
    if (item_bytes_ == 2) {
      uint16_t bits;
      std::memcpy(&bits, address, 2);
      return half_to_float(bits);
    }
    if (has_scale_) {return (*address - 128) * scale(t);}
    return *address;
  }

  // A missing token is a row of zeros, so the mask travels with the tokens.
  bool is_valid(size_t t) const
  {
    for (size_t d = 0; d < width(); ++d) {
      if (at(t, d) != 0.0f) {return true;}
    }
    return false;
  }

private:
  // Of token `t` in 8UC1: behind its channels.
  float scale(size_t t) const
  {
    float value;
    std::memcpy(&value, message_.data.data() + t * message_.step + message_.width, 4);
    return value;
  }

  const sensor_msgs::msg::Image & message_;
  size_t item_bytes_;
  bool has_scale_ = false;
};

// Of the layout's `groups`: how many rows, and whether they are coefficients, which those of kind "patch" are.
struct Group
{
  size_t rows;
  bool reduced;
};

// The tokens of a ~/tokens message whose layout has a basis, row after row, each as wide as the basis. `basis_message`
// is that of ~/basis: reliable, transient local; that it is the layout's is what `basis.sha256` is for. A missing token
// is a row of zeros. Throws std::invalid_argument for bytes that are not those of `groups`, a scale below 0 or not
// finite, and a basis that is none.
inline std::vector<float> restore(
  const sensor_msgs::msg::Image & message, const sensor_msgs::msg::Image & basis_message,
  const std::vector<Group> & groups)
{
  const Tensor basis(basis_message);
  const size_t width = basis.width();
  if (basis.rows() < 2 || width == 0) {
    throw std::invalid_argument(
            "a basis has " + std::to_string(basis.rows()) + " x " + std::to_string(width) +
            " numbers; accepted: the mean and at least one direction");
  }
  const size_t dims = basis.rows() - 1;
  uint64_t expected = 0;
  size_t count = 0;
  for (const Group & group : groups) {
    expected += group.rows * (group.reduced ? dims + 4 : width * 4);
    count += group.rows;
  }
  if (message.encoding != "8UC1" || message.height != 1 || message.data.size() != expected) {
    throw std::invalid_argument(
            std::to_string(message.height) + " rows of " + message.encoding + " and " +
            std::to_string(message.data.size()) + " bytes; accepted: one row of 8UC1 and the " +
            std::to_string(expected) + " bytes of the groups");
  }
  std::vector<float> rows(width * dims);  // of the directions, since each is read for every token
  for (size_t k = 0; k < dims; ++k) {
    for (size_t d = 0; d < width; ++d) {
      rows[k * width + d] = basis.at(k + 1, d);
    }
  }
  std::vector<float> tokens(count * width, 0.0f);
  float * token = tokens.data();
  const uint8_t * address = message.data.data();
  for (const Group & group : groups) {
    for (size_t t = 0; t < group.rows; ++t, token += width) {
      if (!group.reduced) {
        std::memcpy(token, address, width * 4);
        address += width * 4;
        continue;
      }
      float scale;
      std::memcpy(&scale, address + dims, 4);
      if (!(scale >= 0.0f && std::isfinite(scale))) {
        throw std::invalid_argument("a scale is " + std::to_string(scale) + "; accepted: a number from 0");
      }
      bool missing = true;
      for (size_t k = 0; k < dims; ++k) {
        const float coefficient = (address[k] - 128) * scale;
        missing = missing && coefficient == 0.0f;
        for (size_t d = 0; d < width; ++d) {
          token[d] += coefficient * rows[k * width + d];
        }
      }
      for (size_t d = 0; d < width && !missing; ++d) {
        token[d] += basis.at(0, d);
      }
      address += dims + 4;
    }
  }
  return tokens;
}

}  // namespace vit_tokens

#endif  // VIT_TOKENS_HPP_
