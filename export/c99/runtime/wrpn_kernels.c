#include "wrpn_kernels.h"

#include <string.h>

/* The largest double below one half: adding it rounds half away from zero, but not 0.4999... */
#define BELOW_HALF 0x1.fffffffffffffp-2

static int8_t to_code(int64_t steps, wrpn_output to) {
  int64_t code = steps + to.zero_point;
  if (code < to.low) code = to.low;
  return (int8_t)(code > 127 ? 127 : code);
}

/* A doubling high multiplication, half up, then a shift, half away from zero. */
static int32_t scaled(int32_t value, wrpn_multiplier by) {
  int32_t left = by.shift > 0 ? by.shift : 0, right = by.shift < 0 ? -by.shift : 0;
  int64_t product = (int64_t)(int32_t)((uint32_t)value << left) * by.mantissa;
  int64_t sum = product + ((int64_t)1 << 30);
  /* Division rounds towards zero, a shift of negative numbers is not portable. */
  int64_t high = sum / ((int64_t)1 << 31) - (sum < 0 && sum % ((int64_t)1 << 31) != 0);
  int64_t half = ((int64_t)1 << right) >> 1;
  int64_t magnitude = ((high < 0 ? -high : high) + half) >> right;
  return (int32_t)(high < 0 ? -magnitude : magnitude);
}

static int32_t row_of(const wrpn_window *w, int32_t out_y, int32_t y) {
  return out_y * w->stride_y + y * w->dilation_y - w->pad_top;
}

static int32_t column_of(const wrpn_window *w, int32_t out_x, int32_t x) {
  return out_x * w->stride_x + x * w->dilation_x - w->pad_left;
}

static int inside(const wrpn_window *w, int32_t row, int32_t column) {
  return row >= 0 && row < w->in_height && column >= 0 && column < w->in_width;
}

void wrpn_conv2d(const wrpn_window *window, int32_t groups, const int8_t *kernel,
                 const int32_t *bias, const wrpn_multiplier *multipliers,
                 int32_t input_zero_point, wrpn_output to, const int8_t *input, int8_t *output) {
  const wrpn_window *w = window;
  int32_t depth = w->in_channels / groups, filters = w->out_channels / groups;
  for (int32_t out_y = 0; out_y < w->out_height; out_y++) {
    for (int32_t out_x = 0; out_x < w->out_width; out_x++) {
      for (int32_t c = 0; c < w->out_channels; c++) {
        const int8_t *taps = kernel + (int64_t)c * w->height * w->width * depth;
        int32_t sum = bias[c];
        for (int32_t y = 0; y < w->height; y++) {
          for (int32_t x = 0; x < w->width; x++, taps += depth) {
            int32_t row = row_of(w, out_y, y), column = column_of(w, out_x, x);
            if (!inside(w, row, column)) continue; /* padding is the zero point */
            const int8_t *codes =
                input + (row * w->in_width + column) * w->in_channels + c / filters * depth;
            for (int32_t i = 0; i < depth; i++) sum += taps[i] * (codes[i] - input_zero_point);
          }
        }
        *output++ = to_code(scaled(sum, multipliers[c]), to);
      }
    }
  }
}

void wrpn_depthwise_conv2d(const wrpn_window *window, const int8_t *kernel, const int32_t *bias,
                           const wrpn_multiplier *multipliers, int32_t input_zero_point,
                           wrpn_output to, const int8_t *input, int8_t *output) {
  const wrpn_window *w = window;
  int32_t depth_multiplier = w->out_channels / w->in_channels;
  for (int32_t out_y = 0; out_y < w->out_height; out_y++) {
    for (int32_t out_x = 0; out_x < w->out_width; out_x++) {
      for (int32_t c = 0; c < w->out_channels; c++) {
        int32_t sum = bias[c];
        for (int32_t y = 0; y < w->height; y++) {
          for (int32_t x = 0; x < w->width; x++) {
            int32_t row = row_of(w, out_y, y), column = column_of(w, out_x, x);
            if (!inside(w, row, column)) continue;
            int8_t code = input[(row * w->in_width + column) * w->in_channels +
                                c / depth_multiplier];
            sum += kernel[(y * w->width + x) * w->out_channels + c] * (code - input_zero_point);
          }
        }
        *output++ = to_code(scaled(sum, multipliers[c]), to);
      }
    }
  }
}

void wrpn_fully_connected(int32_t rows, int32_t inputs, int32_t outputs, const int8_t *kernel,
                          const int32_t *bias, const double *multipliers,
                          int32_t input_zero_point, wrpn_output to, const int8_t *input,
                          int8_t *output) {
  for (int32_t row = 0; row < rows; row++, input += inputs) {
    for (int32_t c = 0; c < outputs; c++) {
      const int8_t *taps = kernel + (int64_t)c * inputs;
      int32_t sum = bias[c];
      for (int32_t i = 0; i < inputs; i++) sum += taps[i] * (input[i] - input_zero_point);
      double product = sum * multipliers[c];
      *output++ = to_code((int64_t)(product < 0 ? product - BELOW_HALF : product + BELOW_HALF), to);
    }
  }
}

void wrpn_add(int32_t size, const wrpn_multiplier multipliers[3], int32_t left_zero_point,
              int32_t right_zero_point, wrpn_output to, const int8_t *left, const int8_t *right,
              int8_t *output) {
  for (int32_t i = 0; i < size; i++) {
    int32_t sum = scaled((left[i] - left_zero_point) * (1 << 20), multipliers[0]) +
                  scaled((right[i] - right_zero_point) * (1 << 20), multipliers[1]);
    output[i] = to_code(scaled(sum, multipliers[2]), to);
  }
}

void wrpn_max_pool(const wrpn_window *window, const int8_t *input, int8_t *output) {
  const wrpn_window *w = window;
  for (int32_t out_y = 0; out_y < w->out_height; out_y++) {
    for (int32_t out_x = 0; out_x < w->out_width; out_x++) {
      for (int32_t c = 0; c < w->out_channels; c++) {
        int8_t largest = -128;
        for (int32_t y = 0; y < w->height; y++) {
          for (int32_t x = 0; x < w->width; x++) {
            int32_t row = row_of(w, out_y, y), column = column_of(w, out_x, x);
            if (!inside(w, row, column)) continue;
            int8_t code = input[(row * w->in_width + column) * w->in_channels + c];
            if (code > largest) largest = code;
          }
        }
        *output++ = largest;
      }
    }
  }
}

void wrpn_average_pool(const wrpn_window *window, const int8_t *input, int8_t *output) {
  const wrpn_window *w = window;
  for (int32_t out_y = 0; out_y < w->out_height; out_y++) {
    for (int32_t out_x = 0; out_x < w->out_width; out_x++) {
      for (int32_t c = 0; c < w->out_channels; c++) {
        int32_t sum = 0, count = 0;
        for (int32_t y = 0; y < w->height; y++) {
          for (int32_t x = 0; x < w->width; x++) {
            int32_t row = row_of(w, out_y, y), column = column_of(w, out_x, x);
            if (!inside(w, row, column)) continue;
            sum += input[(row * w->in_width + column) * w->in_channels + c];
            count++;
          }
        }
        /* Half away from code 0, which is not the zero point. */
        *output++ = (int8_t)((sum < 0 ? sum - count / 2 : sum + count / 2) / count);
      }
    }
  }
}

void wrpn_concatenate(int32_t outer, int32_t inner, int32_t stride, const int8_t *input,
                      int8_t *output) {
  for (int32_t i = 0; i < outer; i++) {
    memcpy(output + (int64_t)i * stride, input + (int64_t)i * inner, (size_t)inner);
  }
}

void wrpn_pad(const wrpn_window *window, int32_t zero_point, const int8_t *input, int8_t *output) {
  const wrpn_window *w = window;
  for (int32_t out_y = 0; out_y < w->out_height; out_y++) {
    for (int32_t out_x = 0; out_x < w->out_width; out_x++, output += w->in_channels) {
      int32_t row = out_y - w->pad_top, column = out_x - w->pad_left;
      if (inside(w, row, column)) {
        memcpy(output, input + (row * w->in_width + column) * w->in_channels,
               (size_t)w->in_channels);
      } else {
        memset(output, zero_point, (size_t)w->in_channels);
      }
    }
  }
}
