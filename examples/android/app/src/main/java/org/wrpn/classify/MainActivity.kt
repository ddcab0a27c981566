package org.wrpn.classify

import android.app.Activity
import android.graphics.BitmapFactory
import android.os.Bundle
import android.widget.TextView

/** Classifies the asset image.png with the asset model.tflite. */
class MainActivity : Activity() {
    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        val image = assets.open("image.png").use { BitmapFactory.decodeStream(it) }
        val classes = Classifier(this, "model.tflite").classify(image).take(3)
        setContentView(
            TextView(this).apply { text = classes.joinToString("\n") { "${it.second}  ${it.first}" } }
        )
    }
}
