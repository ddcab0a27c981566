plugins {
    id("com.android.application")
    id("org.jetbrains.kotlin.android")
}

android {
    namespace = "org.wrpn.classify"
    compileSdk = 35
    defaultConfig {
        applicationId = "org.wrpn.classify"
        minSdk = 26
        targetSdk = 35
        versionCode = 1
        versionName = "1.0"
    }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
    kotlinOptions { jvmTarget = "17" }
    androidResources { noCompress += "tflite" } // so that the model is mapped, not copied
}

// The last versions with the Interpreter class: LiteRT 2 runs models through CompiledModel.
dependencies {
    implementation("com.google.ai.edge.litert:litert:1.4.2")
    implementation("com.google.ai.edge.litert:litert-metadata:1.4.2")
}
