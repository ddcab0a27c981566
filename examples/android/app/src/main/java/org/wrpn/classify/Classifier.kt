package org.wrpn.classify

import android.content.Context
import android.graphics.Bitmap
import java.io.FileInputStream
import java.nio.ByteBuffer
import java.nio.channels.FileChannel
import kotlin.math.round
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter
import org.tensorflow.lite.Tensor
import org.tensorflow.lite.support.metadata.MetadataExtractor
import org.tensorflow.lite.support.metadata.schema.NormalizationOptions

/** An exported .tflite asset; size, normalization and labels come from the file. */
class Classifier(context: Context, asset: String) {
    private val model = context.assets.openFd(asset).use {
        FileInputStream(it.fileDescriptor).channel
            .map(FileChannel.MapMode.READ_ONLY, it.startOffset, it.declaredLength)
    }
    private val interpreter = Interpreter(model)
    private val metadata = MetadataExtractor(model)
    private val labels =
        metadata.getAssociatedFile("labels.txt").bufferedReader().readLines()
    private val normalization = metadata.getInputTensorMetadata(0)?.processUnits(0)
        ?.options(NormalizationOptions()) as NormalizationOptions
    private val grid = interpreter.getInputTensor(0).quantizationParams()

    /** Labels and logits, the likeliest first. */
    fun classify(image: Bitmap): List<Pair<String, Float>> {
        val source = interpreter.getInputTensor(0)
        val (_, height, width, channels) = source.shape()
        val scaled = Bitmap.createScaledBitmap(image, width, height, true)
        val pixels = IntArray(width * height)
        scaled.getPixels(pixels, 0, width, 0, 0, width, height)
        val input = ByteBuffer.allocateDirect(source.numBytes())
        for (pixel in pixels) {
            val colors = intArrayOf(pixel shr 16 and 255, pixel shr 8 and 255, pixel and 255)
            if (channels == 1) {
                input.put(code((299 * colors[0] + 587 * colors[1] + 114 * colors[2]) / 1000))
            } else {
                colors.forEach { input.put(code(it)) }
            }
        }
        input.rewind()
        val result = interpreter.getOutputTensor(0)
        val output = ByteBuffer.allocateDirect(result.numBytes())
        interpreter.run(input, output)
        val scores = result.quantizationParams()
        return labels.mapIndexed { index, label ->
            val code = output.get(index).toInt() and if (isUnsigned(result)) 255 else -1
            label to (code - scores.zeroPoint) * scores.scale
        }.sortedByDescending { it.second }
    }

    private fun isUnsigned(tensor: Tensor) = tensor.dataType() == DataType.UINT8

    /** The code of a pixel value from 0 to 255, of a file with uint8 or int8 borders. */
    private fun code(pixel: Int): Byte {
        val real = (pixel - normalization.mean(0)) / normalization.std(0)
        val lowest = if (isUnsigned(interpreter.getInputTensor(0))) 0 else -128
        val code = round(real / grid.scale).toInt() + grid.zeroPoint
        return code.coerceIn(lowest, lowest + 255).toByte()
    }
}
