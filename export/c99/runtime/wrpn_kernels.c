#include "wrpn_kernels.h"

#include <string.h>

static int8_t to_code(int64_t steps, wrpn_output to) {
  int64_t code = steps + to.zero_point;
  if (code < to.low) code = to.low;
  return (int8_t)(code > 127 ? 127 : code);
}

/* A doubling high multiplication, half up. */
static int32_t high_product(int32_t left, int32_t right) {
  int64_t sum = (int64_t)left * right + ((int64_t)1 << 30);
  /* Division rounds towards zero, a shift of negative numbers is not portable. */
  return (int32_t)(sum / ((int64_t)1 << 31) - (sum < 0 && sum % ((int64_t)1 << 31) != 0));
}

/* A division by 2^shift, half away from zero. */
static int32_t shifted(int32_t value, int32_t shift) {
  int64_t half = ((int64_t)1 << shift) >> 1;
  int64_t magnitude = ((value < 0 ? -(int64_t)value : value) + half) >> shift;
  return (int32_t)(value < 0 ? -magnitude : magnitude);
}

static int32_t scaled(int32_t value, wrpn_multiplier by) {
  int32_t left = by.shift > 0 ? by.shift : 0, right = by.shift < 0 ? -by.shift : 0;
  return shifted(high_product((int32_t)((uint32_t)value << left), by.mantissa), right);
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

void wrpn_transpose_conv2d(const wrpn_window *window, const int8_t *kernel, const int32_t *bias,
                           const wrpn_multiplier *multipliers, int32_t input_zero_point,
                           wrpn_output to, const int8_t *input, int8_t *output) {
  const wrpn_window *w = window;
  for (int32_t out_y = 0; out_y < w->out_height; out_y++) {
    for (int32_t out_x = 0; out_x < w->out_width; out_x++) {
      for (int32_t c = 0; c < w->out_channels; c++) {
        const int8_t *taps = kernel + (int64_t)c * w->height * w->width * w->in_channels;
        int32_t sum = bias[c];
        for (int32_t y = 0; y < w->height; y++) {
          for (int32_t x = 0; x < w->width; x++, taps += w->in_channels) {
            /* The input that this tap spreads to here, if there is one. */
            int32_t down = out_y + w->pad_top - y, right = out_x + w->pad_left - x;
            if (down % w->stride_y || right % w->stride_x) continue;
            int32_t row = down / w->stride_y, column = right / w->stride_x;
            if (down < 0 || right < 0 || !inside(w, row, column)) continue;
            const int8_t *codes = input + (row * w->in_width + column) * w->in_channels;
            for (int32_t i = 0; i < w->in_channels; i++) {
              sum += taps[i] * (codes[i] - input_zero_point);
            }
          }
        }
        *output++ = to_code(scaled(sum, multipliers[c]), to);
      }
    }
  }
}

void wrpn_fully_connected(int32_t rows, int32_t inputs, int32_t outputs, const int8_t *kernel,
                          const int32_t *bias, const wrpn_multiplier *multipliers,
                          int32_t input_zero_point, wrpn_output to, const int8_t *input,
                          int8_t *output) {
  for (int32_t row = 0; row < rows; row++, input += inputs) {
    for (int32_t c = 0; c < outputs; c++) {
      const int8_t *taps = kernel + (int64_t)c * inputs;
      int32_t sum = bias[c];
      for (int32_t i = 0; i < inputs; i++) sum += taps[i] * (input[i] - input_zero_point);
      *output++ = to_code(scaled(sum, multipliers[c]), to);
    }
  }
}

static int32_t on_fine_grid(int8_t code, int32_t zero_point, wrpn_multiplier multiplier) {
  return scaled((code - zero_point) * (INT32_C(1) << 20), multiplier);
}

void wrpn_add(int32_t size, const wrpn_multiplier multipliers[3], int32_t left_zero_point,
              int32_t right_zero_point, wrpn_output to, const int8_t *left, const int8_t *right,
              int8_t *output) {
  for (int32_t i = 0; i < size; i++) {
    int32_t sum = on_fine_grid(left[i], left_zero_point, multipliers[0]) +
                  on_fine_grid(right[i], right_zero_point, multipliers[1]);
    output[i] = to_code(scaled(sum, multipliers[2]), to);
  }
}

void wrpn_subtract(int32_t size, const wrpn_multiplier multipliers[3], int32_t left_zero_point,
                   int32_t right_zero_point, wrpn_output to, const int8_t *left,
                   const int8_t *right, int8_t *output) {
  for (int32_t i = 0; i < size; i++) {
    int32_t difference = on_fine_grid(left[i], left_zero_point, multipliers[0]) -
                         on_fine_grid(right[i], right_zero_point, multipliers[1]);
    output[i] = to_code(scaled(difference, multipliers[2]), to);
  }
}

static int32_t count(const wrpn_view *view) {
  int32_t elements = 1;
  for (int32_t axis = 0; axis < WRPN_AXES; axis++) elements *= view->sizes[axis];
  return elements;
}

static int32_t place(const wrpn_view *view, int32_t index) {
  int32_t found = view->first;
  for (int32_t axis = WRPN_AXES - 1; axis >= 0; axis--) {
    found += index % view->sizes[axis] * view->steps[axis];
    index /= view->sizes[axis];
  }
  return found;
}

void wrpn_multiply(const wrpn_view *view, const wrpn_multiplier *multiplier,
                   int32_t left_zero_point, int32_t right_zero_point, wrpn_output to,
                   const int8_t *left, const int8_t *right, int8_t *output) {
  int32_t elements = count(view);
  for (int32_t i = 0; i < elements; i++) {
    int32_t product = (left[i] - left_zero_point) * (right[place(view, i)] - right_zero_point);
    output[i] = to_code(scaled(product, *multiplier), to);
  }
}

void wrpn_maximum(int32_t size, const int8_t *left, const int8_t *right, int8_t *output) {
  for (int32_t i = 0; i < size; i++) output[i] = left[i] > right[i] ? left[i] : right[i];
}

void wrpn_minimum(int32_t size, const int8_t *left, const int8_t *right, int8_t *output) {
  for (int32_t i = 0; i < size; i++) output[i] = left[i] < right[i] ? left[i] : right[i];
}

void wrpn_lookup(int32_t size, const int8_t table[256], const int8_t *input, int8_t *output) {
  for (int32_t i = 0; i < size; i++) output[i] = table[input[i] + 128];
}

/* exp of a number in [-1/4, 0) in Q0.31: a Taylor expansion around -1/8. */
static int32_t exp_on_last_quarter(int32_t value) {
  int32_t x = value + (INT32_C(1) << 28), x2 = high_product(x, x);
  int32_t x3 = high_product(x2, x), x4 = high_product(x2, x2);
  int32_t tail = shifted(high_product(shifted(x4, 2) + x3, 715827883) + x2, 1);
  return 1895147668 + high_product(1895147668, x + tail);
}

/* exp of a Q5.26 number that is not positive, as Q0.31. */
static int32_t exp_on_negative(int32_t value) {
  /* exp(-1/4), exp(-1/2), ... exp(-16) */
  static const int32_t powers[7] = {1672461947, 1302514674, 790015084, 290630308,
                                    39332535,   720401,     242};
  const int32_t quarter = INT32_C(1) << 24;
  if (value == 0) return INT32_MAX;
  int32_t magnitude = -value, above = magnitude % quarter;
  int32_t fraction = above ? -above : -quarter, rest = magnitude + fraction;
  int32_t result = exp_on_last_quarter(fraction * (1 << 5));
  for (int32_t i = 0; i < 7; i++) {
    if (rest & (quarter << i)) result = high_product(result, powers[i]);
  }
  return result;
}

/* 1 / (1 + x) of a Q0.31 number in [0, 1), as Q0.31: three Newton-Raphson steps in Q2.29. */
static int32_t one_over_one_plus(int32_t value) {
  int32_t half_denominator = (int32_t)(((int64_t)value + INT32_MAX + 1) / 2);
  int32_t x = 1515870810 + high_product(half_denominator, -1010580540);
  for (int32_t i = 0; i < 3; i++) {
    int32_t rest = (INT32_C(1) << 29) - high_product(half_denominator, x);
    x += high_product(x, rest) * 4;
  }
  return x > INT32_MAX / 2 ? INT32_MAX : x * 2;
}

void wrpn_softmax(int32_t rows, int32_t classes, const wrpn_multiplier *multiplier, int32_t reach,
                  const int8_t *input, int8_t *output) {
  wrpn_multiplier by = *multiplier;
  for (int32_t row = 0; row < rows; row++, input += classes, output += classes) {
    int32_t largest = -128, headroom = 0;
    uint32_t sum = 0; /* Q13.19 */
    for (int32_t c = 0; c < classes; c++) {
      if (input[c] > largest) largest = input[c];
    }
    for (int32_t c = 0; c < classes; c++) {
      if (largest - input[c] > reach) continue;
      sum += (uint32_t)shifted(exp_on_negative(scaled(input[c] - largest, by)), 12);
    }
    while (!(sum << headroom & 0x80000000u)) headroom++;
    int32_t inverse = one_over_one_plus((int32_t)((sum << headroom) - 0x80000000u));
    for (int32_t c = 0; c < classes; c++) {
      output[c] = -128;
      if (largest - input[c] > reach) continue;
      int32_t product = high_product(inverse, exp_on_negative(scaled(input[c] - largest, by)));
      int32_t code = shifted(product, 35 - headroom) - 128;
      output[c] = (int8_t)(code > 127 ? 127 : code);
    }
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

void wrpn_pad(const wrpn_window *window, int32_t value, const int8_t *input, int8_t *output) {
  const wrpn_window *w = window;
  for (int32_t out_y = 0; out_y < w->out_height; out_y++) {
    for (int32_t out_x = 0; out_x < w->out_width; out_x++, output += w->in_channels) {
      int32_t row = out_y - w->pad_top, column = out_x - w->pad_left;
      if (inside(w, row, column)) {
        memcpy(output, input + (row * w->in_width + column) * w->in_channels,
               (size_t)w->in_channels);
      } else {
        memset(output, value, (size_t)w->in_channels);
      }
    }
  }
}

void wrpn_move(const wrpn_view *view, const int8_t *input, int8_t *output) {
  int32_t elements = count(view);
  for (int32_t i = 0; i < elements; i++) output[i] = input[place(view, i)];
}

/* Between which two pixels a place lies, and the share of the second in 1 / (2 * factor). */
static void between(int32_t place, int32_t factor, int32_t size, int32_t pixels[2],
                    int32_t *share) {
  int32_t distance = 2 * place + 1 + factor; /* from the center of pixel -1 */
  pixels[0] = distance / (2 * factor) - 1;
  pixels[1] = pixels[0] + 1;
  *share = distance % (2 * factor);
  if (pixels[0] < 0) pixels[0] = 0;
  if (pixels[1] > size - 1) pixels[1] = size - 1;
}

void wrpn_resize_bilinear(const wrpn_window *window, const int8_t *input, int8_t *output) {
  const wrpn_window *w = window;
  int32_t divisor = 4 * w->height * w->width;
  for (int32_t y = 0; y < w->out_height; y++) {
    int32_t rows[2], down;
    between(y, w->height, w->in_height, rows, &down);
    for (int32_t x = 0; x < w->out_width; x++) {
      int32_t columns[2], right;
      between(x, w->width, w->in_width, columns, &right);
      for (int32_t c = 0; c < w->in_channels; c++) {
        int32_t sums[2];
        for (int32_t i = 0; i < 2; i++) {
          const int8_t *line = input + rows[i] * w->in_width * w->in_channels + c;
          sums[i] = line[columns[0] * w->in_channels] * (2 * w->width - right) +
                    line[columns[1] * w->in_channels] * right;
        }
        int32_t sum = sums[0] * (2 * w->height - down) + sums[1] * down;
        *output++ = (int8_t)((sum < 0 ? sum - divisor / 2 : sum + divisor / 2) / divisor);
      }
    }
  }
}
